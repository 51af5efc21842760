"""The diffusion transformer: blocks of two streams, then of one, over video and text tokens."""
