"""The wide world: one or two things with a relation, fills, speeds, landscapes and light."""
