"""Other people's applications: diffusers pipelines, ComfyUI graphs."""
