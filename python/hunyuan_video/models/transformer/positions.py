"""Positions of a run's own around the blocks, in the place of those that the model makes of its grid."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from hunyuan_video.models.transformer.executor import Layer, Run


class OwnPositions(Layer):
    """Rotary tables of a run, cos and sin [S, head_dim] fp32 each."""

    place = "positions"

    def __init__(self, rope: tuple[Tensor, Tensor]):
        self.rope = rope

    def all_blocks(  # [B, S, D] -> [B, S, D]
        self, run: Run, img: list[Tensor], txt: Tensor, vec: Tensor | None, rope: Any, *args: Any, **kwargs: Any
    ) -> Tensor:
        if self.rope[0].device != img[0].device:
            self.rope = self.rope[0].to(img[0].device), self.rope[1].to(img[0].device)
        return run(img, txt, vec, self.rope, *args, **kwargs)
