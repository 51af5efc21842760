"""toyworld: a procedural, captioned video world whose ground truth is known.

>>> scene = WORLDS["narrow"].scene(0)
>>> clips = render([scene])                                  # uint8 [1, 17, 64, 64, 3]
>>> text = caption(scene, random.Random(0)).text
"""

from hunyuan_video.data.toyworld.captions import Caption, caption
from hunyuan_video.data.toyworld.render import render
from hunyuan_video.data.toyworld.scene import WORLDS, Attributes, Scene, World

__all__ = [
    "WORLDS",
    "Attributes",
    "Caption",
    "Scene",
    "World",
    "caption",
    "render",
]
