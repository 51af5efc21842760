"""Random numbers of a step on the device that uses them."""

from __future__ import annotations

import torch


def generator_on(device: str | torch.device, generator: torch.Generator) -> torch.Generator:
    """A generator of the device: the given one if it is there, else a new one that it seeds."""
    device = torch.device(device)
    if device.type == generator.device.type:
        return generator
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    return torch.Generator(device).manual_seed(seed)
