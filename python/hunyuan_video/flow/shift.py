"""Flow shift: moves noise levels towards noise (paper section 5.1, "timestep shift"); its defaults."""

from __future__ import annotations

import math

from torch import Tensor

SHIFT_AT_50_STEPS = 7.0
SHIFT_BELOW_20_STEPS = 17.0


def shift_times(t: Tensor, shift: float) -> Tensor:  # t: any shape, 0..1
    """s t / (1 + (s - 1) t): keeps 0 and 1 in place and moves what is between towards noise where s > 1."""
    return shift * t / (1 + (shift - 1) * t)


def check_shift(shift: float) -> None:
    """ValueError unless shift is a positive, finite number."""
    if not (shift > 0 and math.isfinite(shift)):
        raise ValueError(f"shift must be a positive number (1 = none, 7 = usual), got {shift}")


def default_shift(steps: int) -> float:
    """The paper's shift for a step count: 7 from 50 steps up, 17 below 20 steps; linear between (our choice)."""
    if steps < 20:
        return SHIFT_BELOW_20_STEPS
    return SHIFT_AT_50_STEPS + (SHIFT_BELOW_20_STEPS - SHIFT_AT_50_STEPS) * max(50 - steps, 0) / 30


def resolution_shift(tokens: int, base_tokens: int, base_shift: float = 1.0) -> float:
    """base_shift * sqrt(tokens / base_tokens): larger videos need more noise to lose as much of their content.

    SD3's rule (arXiv 2403.03206, equation 23). tokens: of the video; base_tokens: of one for which base_shift is right.
    """
    if tokens < 1 or base_tokens < 1:
        raise ValueError(f"tokens and base_tokens must be positive, got {tokens} and {base_tokens}")
    check_shift(base_shift)
    return base_shift * math.sqrt(tokens / base_tokens)
