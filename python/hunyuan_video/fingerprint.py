"""Short hashes of what something was made from: models, files, settings. Whatever is computed and kept carries one.

docs/fingerprints.md lists what is kept and by which of these it is recognized.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn


def fingerprint(module: nn.Module, state: Iterable[tuple[str, Tensor]] | None = None) -> str:
    """16 hex digits over a model's config, dtype, parameter names and shapes, and up to 64 values of each parameter.

    Two checkpoints of one architecture differ in practically every sampled value; reading all 26 GB would tell no more.
    Adapters beside the weights count with their strengths. state: the sorted entries of the state dict, of a module
    that has not all of them in memory.
    """
    import torch

    digest = hashlib.sha256(repr(getattr(module, "config", None)).encode())
    for name, tensor in sorted(module.state_dict().items()) if state is None else state:
        flat = tensor.detach().reshape(-1)
        sample = flat[:: max(1, flat.numel() // 64)][:64].cpu().contiguous()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(sample.view(torch.uint8).numpy().tobytes())
    for name, part in module.named_modules():
        strengths = getattr(part, "weights", None)  # of adapters, by name: no tensors, so in no state dict
        if isinstance(strengths, dict) and strengths and not getattr(part, "plain", False):
            digest.update(f"{name} {sorted(strengths.items())}".encode())
    return digest.hexdigest()[:16]


def base_fingerprint(module: nn.Module) -> str:
    """16 hex digits over parameter names, shapes, and up to 64 values of each in bfloat16; adapters do not count.

    The same whether weights that were stored in bfloat16 or float32 are loaded in either; the config does not count.
    """
    import torch

    digest = hashlib.sha256()
    plain = {name.replace("base_layer.", ""): tensor for name, tensor in module.state_dict().items()
             if ".adapters." not in name}  # fmt: skip
    for name, tensor in sorted(plain.items()):
        flat = tensor.detach().reshape(-1)
        sample = flat[:: max(1, flat.numel() // 64)][:64].cpu().bfloat16().contiguous()
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(sample.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def weights_hash(weights: Iterable[tuple[str, Tensor]], prefix: str = "") -> str:
    """12 hex digits over names and every value, whatever the dtype; prefix: what else belongs to the hash."""
    digest = hashlib.sha256(prefix.encode())
    for name, weight in weights:
        digest.update(name.encode())
        digest.update(weight.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def values_hash(*values: Any) -> str:
    """16 hex digits over values that JSON can hold: settings, names, captions."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def file_status(path: Path) -> tuple[int, int]:
    """(bytes, time of the last change in ns) of a file, or of what a link points to. Raises OSError."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def folder_hash(folder: Path) -> str:
    """16 hex digits over names, sizes and times of a folder's files; no file is read. Hidden ones do not count.

    Equal hashes: nothing has changed. Different ones may also come of a copy or a `touch`.
    """
    files = []
    for root, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths = [Path(root, name) for name in sorted(names) if not name.startswith(".")]
        files += [(path.relative_to(folder).as_posix(), *file_status(path)) for path in paths if path.is_file()]
    return values_hash(files)
