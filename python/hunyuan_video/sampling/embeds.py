"""Encoded prompts: what the transformer is conditioned on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from hunyuan_video.errors import ArgumentError, UserError

if TYPE_CHECKING:
    from hunyuan_video.models.text import ClipTextEncoder, TextEncoder
    from hunyuan_video.models.text.tokens import TokenReport


@dataclass(frozen=True)
class PromptEmbeds:
    """A batch of encoded prompts. Tokens beyond a row's mask have no influence on the video."""

    text: Tensor  # [B, L, D] states of the language model
    mask: Tensor  # [B, L] 1 = valid, a prefix of each row
    pooled: Tensor  # [B, P] CLIP's pooled state

    def __len__(self) -> int:
        return self.text.shape[0]

    def repeated(self, times: int) -> PromptEmbeds:
        """Every row `times` times in a row: [B * times, ...]."""
        return PromptEmbeds(*(part.repeat_interleave(times, 0) for part in (self.text, self.mask, self.pooled)))

    def rows(self, start: int, stop: int) -> PromptEmbeds:
        return PromptEmbeds(self.text[start:stop], self.mask[start:stop], self.pooled[start:stop])

    def to(self, device: torch.device) -> PromptEmbeds:
        return PromptEmbeds(self.text.to(device), self.mask.to(device), self.pooled.to(device))

    def check(self, name: str, text_dim: int, pooled_dim: int) -> None:
        """ArgumentError unless the shapes fit each other and a transformer of these widths."""
        batch = len(self)
        if self.text.ndim != 3 or self.text.shape[2] != text_dim:
            raise ArgumentError(f"{name}.text must be [B, L, {text_dim}] for this model, got {list(self.text.shape)}")
        if list(self.mask.shape) != list(self.text.shape[:2]):
            raise ArgumentError(f"{name}.mask must be {list(self.text.shape[:2])}, got {list(self.mask.shape)}")
        if list(self.pooled.shape) != [batch, pooled_dim]:
            raise ArgumentError(f"{name}.pooled must be [{batch}, {pooled_dim}], got {list(self.pooled.shape)}")
        valid = self.mask != 0
        if (valid[:, 1:] & ~valid[:, :-1]).any():
            raise ArgumentError(f"{name}.mask must mark a prefix of each row: valid tokens first, then padding")
        if not valid.any(dim=1).all():
            raise ArgumentError(f"{name}.mask has a row without a valid token; every prompt needs at least one")
        if not (self.text.isfinite().all() and self.pooled.isfinite().all()):
            raise ArgumentError(f"{name} contains NaN or infinity; check the text encoder's dtype (float16 overflows)")


def concatenate(parts: Sequence[PromptEmbeds]) -> PromptEmbeds:
    """The rows of all parts in order, shorter texts padded to the longest (padding has no influence)."""
    longest = max(part.text.shape[1] for part in parts)
    texts = [F.pad(part.text, (0, 0, 0, longest - part.text.shape[1])) for part in parts]
    masks = [F.pad(part.mask, (0, longest - part.mask.shape[1])) for part in parts]
    return PromptEmbeds(torch.cat(texts), torch.cat(masks), torch.cat([part.pooled for part in parts]))


def encode_prompts(
    text_encoder: TextEncoder | None,
    clip_text_encoder: ClipTextEncoder | None,
    prompts: Sequence[str],
    *,
    video: bool,
) -> tuple[PromptEmbeds, dict[str, list[TokenReport]]]:
    """Embeddings and token reports of prompts; `video` chooses the instruction template (video or image).

    Prompts are encoded one at a time, so a prompt's embedding never depends on its neighbours in a batch.
    """
    if text_encoder is None or clip_text_encoder is None:
        missing = "text_encoder" if text_encoder is None else "clip_text_encoder"
        raise UserError(
            f"this pipeline has no {missing}; load a checkpoint that has one, or give prompt_embeds "
            "(and negative_prompt_embeds, or true_cfg_scale=1)"
        )
    states = [text_encoder([prompt], video=video) for prompt in prompts]
    pooled = [clip_text_encoder([prompt]) for prompt in prompts]
    embeds = concatenate(
        [PromptEmbeds(s.hidden.float(), s.mask, p.pooled.float()) for s, p in zip(states, pooled, strict=True)]
    )
    reports = {
        "text_encoder": [state.tokens[0] for state in states],
        "clip_text_encoder": [one.tokens[0] for one in pooled],
    }
    return embeds, reports
