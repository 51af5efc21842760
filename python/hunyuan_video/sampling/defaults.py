"""What a checkpoint wants to be sampled with: its sampling.json, or the released HunyuanVideo's own values."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hunyuan_video.errors import UserError

NEGATIVE_PROMPT = (
    "Aerial view, aerial view, overexposed, low quality, deformation, a poor composition, "
    "bad hands, bad teeth, bad eyes, bad limbs, distortion"
)


@dataclass(frozen=True)
class SamplingDefaults:
    """Values used where a call leaves them out. The defaults of this class are the released 13B model's."""

    height: int = 720
    width: int = 1280
    num_frames: int = 129
    fps: float = 24
    num_inference_steps: int = 50
    guidance_scale: float = 6.0
    true_cfg_scale: float = 1.0
    guidance_rescale: float = 0.0
    flow_shift: float | None = None  # None: the paper's rule, `paper_shift`
    negative_prompt: str = NEGATIVE_PROMPT

    @classmethod
    def read(cls, folder: Path) -> SamplingDefaults:
        """From folder/sampling.json where there is one; its other entries (templates, ...) belong to other readers."""
        path = folder / "sampling.json"
        if not path.exists():
            return cls()
        try:
            values: dict[str, Any] = json.loads(path.read_text())
            return cls(**{name: values[name] for name in cls.__dataclass_fields__ if name in values})
        except (ValueError, TypeError) as error:
            raise UserError(f"{path} is damaged ({error}); restore it or delete it to use HunyuanVideo's defaults") from error


def paper_shift(steps: int) -> float:
    """Timestep shift by number of steps (paper section 5.1): 17 below 20 steps, else 7."""
    return 17.0 if steps < 20 else 7.0
