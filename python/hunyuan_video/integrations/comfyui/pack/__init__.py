"""ComfyUI's nodes of hunyuan-ext; `hunyuan-video comfyui install custom_nodes` puts this folder there.

The nodes are in the package hunyuan_video, which must be installed for the Python that runs ComfyUI.
"""

from hunyuan_video.integrations.comfyui.nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
