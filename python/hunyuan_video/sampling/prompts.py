"""Encoded prompts, which condition the transformer, and what a text encoder did not read of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hunyuan_video.checkpoints.layout import part_folders, tokenizer_folder
from hunyuan_video.checkpoints.pipeline import prompt_template
from hunyuan_video.checkpoints.tokenizer import load_tokenizer
from hunyuan_video.errors import ArgumentError, UserError
from hunyuan_video.models.text.encoders import framed_tokens
from hunyuan_video.models.text.tokens import TokenReport

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

    Prompts are encoded one at a time, so a prompt's embedding never depends on its neighbors in a batch.
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
        "clip_text_encoder": [encoded.tokens[0] for encoded in pooled],
    }
    return embeds, reports


TokenReports = Mapping[str, Sequence[TokenReport]]
"""Encoder name ("text_encoder", "clip_text_encoder") -> one report per prompt."""
_NAMES = {"text_encoder": "the text encoder", "clip_text_encoder": "CLIP"}
MOST = 0.75


def dropped_lines(tokens: TokenReports) -> list[str]:
    """One line per prompt and encoder that lost words; empty when every word was read."""
    lines = []
    for encoder, reports in tokens.items():
        for number, report in enumerate(reports, 1):
            if report.dropped:
                which = f"prompt {number}: " if len(reports) > 1 else ""
                lost = shortened(report.dropped)
                lines.append(f"{which}{_NAMES[encoder]} reads {report.limit} tokens and did not see: {lost!r}")
    return lines


def mostly_dropped(tokens: TokenReports, prompts: Sequence[str]) -> str | None:
    """The first prompt of which the text encoder would lose more than three quarters (a paste accident), else None."""
    for prompt, report in zip(prompts, tokens.get("text_encoder", ()), strict=False):
        if len(report.dropped) > MOST * len(prompt):
            return prompt
    return None


def check_lengths(folder: Path, prompts: Sequence[str], *, video: bool, first: int = 0) -> None:
    """ArgumentError for a prompt of which a checkpoint's text encoder would lose more than three quarters.

    Only the tokenizer is read, so a file of prompts is refused before minutes of loading rather than between two of its
    videos. first: prompts before it are done.
    """
    encoder = part_folders(folder)["text_encoder"]
    if not encoder.is_dir():
        return  # loading says so
    tokenizer = load_tokenizer(tokenizer_folder(encoder))
    template = prompt_template(folder)
    for number, prompt in enumerate(prompts[first:], first + 1):
        _, reports = framed_tokens(tokenizer, template, [prompt], video=video)
        if mostly_dropped({"text_encoder": reports}, [prompt]) is not None:
            which = f"prompt {number} of {len(prompts)}" if len(prompts) > 1 else "the prompt"
            raise ArgumentError(
                f"{which} is far too long: the text encoder reads {template.text_length} tokens, under a quarter of "
                f"it; shorten it: {shortened(prompt)!r}"
            )


def tokens_as_json(tokens: TokenReports) -> dict[str, list[dict[str, Any]]]:
    return {name: [vars(report).copy() for report in reports] for name, reports in tokens.items()}


def tokens_from_json(values: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, list[TokenReport]]:
    return {name: [TokenReport(**report) for report in reports] for name, reports in values.items()}


def shortened(text: str, limit: int = 60) -> str:
    """Text on one line, its end replaced by "..." beyond `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 3] + "..."
