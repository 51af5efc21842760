"""The judge of each world."""

from torch import Tensor

from hunyuan_video.data.toyworld.analyser import Judgement, analyse
from hunyuan_video.data.toyworld.scene import Attributes
from hunyuan_video.data.toyworld.wide.judge import WideJudgement, judge
from hunyuan_video.data.toyworld.wide.parsing import Asked
from hunyuan_video.data.toyworld.wide.scene import WideScene


def judge_clip(
    frames: Tensor,  # uint8 [F, H, W, 3]
    asked: Attributes | WideScene | Asked,
) -> Judgement | WideJudgement:
    """Judgement of a clip from its pixels alone, in the words of the world that `asked` belongs to."""
    return judge(frames) if isinstance(asked, WideScene | Asked) else analyse(frames)
