"""toyworld: a procedural, captioned video world whose ground truth is known, and a judge that sees only pixels.

>>> world = WORLDS["narrow"]
>>> scenes = world.scenes(8, seed=1)
>>> clips = render(scenes)                                       # uint8 [8, 17, 64, 64, 3]
>>> texts = [caption(scene, random.Random(i)).text for i, scene in enumerate(scenes)]
>>> score([analyse(clip) for clip in clips], scenes)["all"]
1.0
>>> parse("a green star moves up on a gray background, the camera is static", world).motion
'up'
"""

from hunyuan_video.data.toyworld.analyser import Judgement, analyse
from hunyuan_video.data.toyworld.captions import Caption, caption
from hunyuan_video.data.toyworld.judges import judge_clip
from hunyuan_video.data.toyworld.parsing import parse
from hunyuan_video.data.toyworld.render import render
from hunyuan_video.data.toyworld.scene import WORLDS, Attributes, Scene, World, with_details
from hunyuan_video.data.toyworld.score import hits, score, shuffled_floor
from hunyuan_video.data.toyworld.wide.scene import WideScene, WideWorld

__all__ = [
    "WORLDS",
    "Attributes",
    "Caption",
    "Judgement",
    "Scene",
    "WideScene",
    "WideWorld",
    "World",
    "analyse",
    "caption",
    "hits",
    "judge_clip",
    "parse",
    "render",
    "score",
    "shuffled_floor",
    "with_details",
]
