"""Image-to-video by token replacement (paper section 7.2): the first latent frame is given, and stays what it is."""

from __future__ import annotations

import torch
from torch import Tensor


def with_first_frame(
    latents: Tensor,  # [B, C, T, h, w]
    first: Tensor | None,  # [B, C, 1, h, w], or None: nothing is given
) -> Tensor:
    """The latents with `first` as their first frame, in the dtype and on the device of `latents`."""
    return latents if first is None else torch.cat((first.to(latents), latents[:, :, 1:]), dim=2)
