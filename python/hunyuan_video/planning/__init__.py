"""What a run costs, before it starts: operations, bytes, seconds."""
