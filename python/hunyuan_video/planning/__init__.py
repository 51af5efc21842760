"""Cost of a run before it starts: operations, bytes, seconds."""
