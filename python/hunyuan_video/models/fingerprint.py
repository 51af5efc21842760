"""Short hashes that tell models apart: which weights made a video, a latent or a text feature."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from hunyuan_video.models.lora import active_adapters


def fingerprint(module: nn.Module) -> str:
    """16 hex digits over a model's config, dtype, parameter names and shapes, and up to 64 values of each parameter.

    Adapters beside the weights count with their strengths.

    Two checkpoints of one architecture differ in practically every sampled value; reading all 26 GB would tell no more.
    """
    digest = hashlib.sha256(repr(getattr(module, "config", None)).encode())
    for name, tensor in sorted(module.state_dict().items()):
        flat = tensor.detach().reshape(-1)
        sample = flat[:: max(1, flat.numel() // 64)][:64].cpu().contiguous()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(sample.view(torch.uint8).numpy().tobytes())
    if active := active_adapters(module):
        digest.update(repr(sorted(active.items())).encode())
    return digest.hexdigest()[:16]


def weights_hash(weights: Iterable[tuple[str, Tensor]], prefix: str = "") -> str:
    """12 hex digits over names and every value, whatever the dtype; prefix: what else belongs to the hash."""
    digest = hashlib.sha256(prefix.encode())
    for name, weight in weights:
        digest.update(name.encode())
        digest.update(weight.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]
