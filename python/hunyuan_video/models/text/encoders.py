"""The two text encoders of HunyuanVideo: a language model for the tokens, CLIP for one vector per prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hunyuan_video.models.text.templates import HUNYUAN_TEMPLATE, PromptTemplate
from hunyuan_video.models.text.tokens import Tokenizer, TokenReport, Tokens, token_report


@dataclass(frozen=True)
class EncodedText:
    """Output of the language model for a batch of prompts."""

    hidden: Tensor  # [B, L, D], dtype of the model
    mask: Tensor  # [B, L] int64, 1 = valid, a prefix
    tokens: list[TokenReport]


@dataclass(frozen=True)
class EncodedPooled:
    """Output of CLIP for a batch of prompts."""

    pooled: Tensor  # [B, P], dtype of the model
    tokens: list[TokenReport]


class TextEncoder(nn.Module):
    """Prompts -> hidden states of a language model, for the token stream of the video transformer.

    The prompt is put into a frame of instructions, the model runs on it, and the positions of the instructions are cut
    away (paper section 4.1.3; HunyuanVideo takes the output of the third decoder layer from the end, unnormalized).

    model: `LlamaModel`, or anything called as model(ids, mask, skip_layers=k) -> [B, S, D] with a `norm`.
    skip_layer: how many layers from the end; hidden_states[-(skip_layer + 1)].
    apply_final_norm: normalize that state with the model's last norm (HunyuanVideo does not).

    Both modes give template.text_length positions. The released code tokenizes images to the length of the video frame
    and so hands 315 positions to the transformer; prompts of up to 256 tokens give the same result either way.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Tokenizer,
        template: PromptTemplate = HUNYUAN_TEMPLATE,
        *,
        skip_layer: int = 2,
        apply_final_norm: bool = False,
    ):
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.template = template
        self.skip_layer = skip_layer
        self.apply_final_norm = apply_final_norm

    @property
    def text_length(self) -> int:
        """Text positions handed to the video transformer, L."""
        return self.template.text_length

    def forward(self, prompts: str | list[str], *, video: bool = True) -> EncodedText:
        """Encodes prompts with the frame for videos, or for images. Raises TypeError if a prompt is not a string."""
        tokens, reports = framed_tokens(self.tokenizer, self.template, _checked(prompts), video=video)
        hidden, mask = self.encode_ids(tokens.ids, tokens.mask, self.template.frame(video).crop_start)
        return EncodedText(hidden, mask, reports)

    @torch.no_grad()
    def encode_ids(
        self,
        input_ids: Tensor,  # [B, crop_start + L] int64
        attention_mask: Tensor,  # [B, crop_start + L], 1 = valid
        crop_start: int,
    ) -> tuple[Tensor, Tensor]:  # [B, L, D], [B, L]
        """Runs the model on token ids and cuts the first crop_start positions from states and mask."""
        device = device_of(self.model)
        input_ids, attention_mask = input_ids.to(device), attention_mask.to(device)
        hidden = self.model(input_ids, attention_mask, skip_layers=self.skip_layer)
        if self.apply_final_norm and self.skip_layer > 0:
            norm: Any = self.model.norm
            hidden = norm(hidden)
        return hidden[:, crop_start:], attention_mask[:, crop_start:]


def framed_tokens(
    tokenizer: Tokenizer, template: PromptTemplate, prompts: list[str], *, video: bool
) -> tuple[Tokens, list[TokenReport]]:
    """Tokens of prompts in their frame of instructions, and the account of each prompt; no model is needed."""
    frame = template.frame(video)
    tokens = tokenizer([frame.fill(p) for p in prompts], template.text_length + frame.crop_start)
    used = tokens.mask[:, frame.crop_start :].sum(dim=1).tolist()
    reports = [
        token_report(p, cut=cut, offset=len(frame.prefix), used=n, limit=template.text_length)
        for p, cut, n in zip(prompts, tokens.cuts, used, strict=True)
    ]
    return tokens, reports


class ClipTextEncoder(nn.Module):
    """Prompts -> CLIP's pooled text state, for the modulation of the video transformer.

    model: `ClipTextModel`, or anything called as model(ids) -> (states, pooled). max_length: tokens with begin and end.
    The prompt goes in as it is; the pooled state is the normalized one at the first end token, not projected.
    """

    def __init__(self, model: nn.Module, tokenizer: Tokenizer, *, max_length: int = 77):
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.max_length = max_length

    def forward(self, prompts: str | list[str]) -> EncodedPooled:
        """Encodes prompts. Raises TypeError if a prompt is not a string."""
        prompts = _checked(prompts)
        tokens = self.tokenizer(prompts, self.max_length)
        used = tokens.mask.sum(dim=1).tolist()
        reports = [
            token_report(p, cut=cut, offset=0, used=n, limit=self.max_length)
            for p, cut, n in zip(prompts, tokens.cuts, used, strict=True)
        ]
        return EncodedPooled(self.encode_ids(tokens.ids), reports)

    @torch.no_grad()
    def encode_ids(self, input_ids: Tensor) -> Tensor:  # [B, S] int64 -> [B, P]
        """Runs the model on token ids."""
        return self.model(input_ids.to(device_of(self.model)))[1]


def device_of(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _checked(prompts: Any) -> list[str]:
    prompts = [prompts] if isinstance(prompts, str) else list(prompts)
    for prompt in prompts:
        if not isinstance(prompt, str):
            raise TypeError(f"a prompt must be a string, not {type(prompt).__name__}")
    return prompts
