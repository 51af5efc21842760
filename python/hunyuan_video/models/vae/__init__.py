"""The causal 3D VAE: whole, in tiles, and exactly in bounded memory."""
