"""ComfyUI: a node pack that samples, decodes and plans with this package, and its place in a custom_nodes folder."""
