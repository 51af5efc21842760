"""What a checkpoint wants to be sampled with where a call leaves a value out."""

from __future__ import annotations

from dataclasses import dataclass

NEGATIVE_PROMPT = (
    "Aerial view, aerial view, overexposed, low quality, deformation, a poor composition, "
    "bad hands, bad teeth, bad eyes, bad limbs, distortion"
)


@dataclass(frozen=True)
class SamplingDefaults:
    """The defaults of this class are the released 13B model's; a checkpoint's sampling.json overrides them."""

    height: int = 720
    width: int = 1280
    num_frames: int = 129
    fps: float = 24
    num_inference_steps: int = 50
    guidance_scale: float = 6.0
    true_cfg_scale: float = 1.0
    guidance_rescale: float = 0.0
    flow_shift: float | None = None  # None: the paper's for the number of steps
    solver: str = "euler"
    negative_prompt: str = NEGATIVE_PROMPT
