"""The transformer's adaLN vectors of a whole schedule, made once per prompt instead of once per step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from hunyuan_video.models import HunyuanVideoTransformer
    from hunyuan_video.models.modulation import Modulations


class ModulationTables:
    """A table per distinct prompt batch, always of all timesteps of the schedule: a resumed run makes the same tables,
    and so the same bits, as an unbroken one.

    Models without a `modulations` method (wrappers, other networks) get no table and condition themselves.
    """

    def __init__(self, transformer: HunyuanVideoTransformer, timesteps: Tensor):  # [N] fp32 on the CPU, 0..1000
        self.transformer = transformer
        self.timesteps = timesteps if hasattr(transformer, "modulations") else timesteps[:0]
        self._tables: list[tuple[Tensor, Modulations]] = []
        self._table_of: dict[int, Modulations] = {}  # by id of the pooled text, which the caller keeps

    def at(
        self,
        timestep: Tensor,  # [] fp32 on the CPU
        pooled_text: Tensor,  # [B, pooled_text_dim]; the same object at every step
        guidance: Tensor | None,  # [B]; the same at every step
    ) -> Modulations | None:
        """The vectors at a timestep of the schedule; None at any other."""
        found = (self.timesteps == timestep).nonzero()
        if not len(found):
            return None
        if id(pooled_text) not in self._table_of:
            self._table_of[id(pooled_text)] = self._table(pooled_text, guidance)
        return self._table_of[id(pooled_text)].step(int(found[0]))

    def _table(self, pooled_text: Tensor, guidance: Tensor | None) -> Modulations:
        for known, table in self._tables:  # videos of one prompt share theirs
            if known.shape == pooled_text.shape and torch.equal(known, pooled_text):
                return table
        table = self.transformer.modulations(self.timesteps.to(pooled_text.device), pooled_text, guidance)
        self._tables.append((pooled_text, table))
        return table
