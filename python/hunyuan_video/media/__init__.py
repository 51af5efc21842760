"""Pictures and videos as files: reading, writing, and what pixels mean in between."""
