"""Other families of text models, already loaded by transformers, behind the call of our own ones."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class ForeignLanguageModel(nn.Module):
    """A transformers decoder (or the language part of a vision-language model) called like `LlamaModel`."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = getattr(model, "language_model", model)

    @property
    def norm(self) -> nn.Module:
        """The norm after the last layer."""
        return self.model.norm

    def forward(
        self,
        input_ids: Tensor,  # [B, S] int64
        attention_mask: Tensor,  # [B, S], 1 = valid
        *,
        skip_layers: int = 0,
    ) -> Tensor:  # [B, S, D]
        out = self.model(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True, use_cache=False)
        return out.hidden_states[-(skip_layers + 1)]


class ForeignPooledModel(nn.Module):
    """A transformers text model with a pooled output, called like `ClipTextModel`."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor) -> tuple[Tensor, Tensor]:  # [B, S] -> [B, S, D], [B, D]
        out = self.model(input_ids=input_ids)
        return out.last_hidden_state, out.pooler_output
