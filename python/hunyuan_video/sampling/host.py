"""The modes of the program around a run, which change nothing of what is sampled."""

from __future__ import annotations

import torch


def own_precision(device: torch.device) -> torch.autocast:
    """Switches the caller's autocast off, on the device of the models: their precision is that of their weights.

    For calls, not for generators: the mode is the thread's, and would stay so for the caller after a `yield`.
    """
    return torch.autocast(device.type, enabled=False)
