"""PyTorch `.pt` files, memory-mapped and with `weights_only=True`: no code in them is ever run."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hunyuan_video.checkpoints.safetensors_file import TensorInfo
from hunyuan_video.errors import UserError

# Entries that hold a state dict, in order of preference, by the load_key that asks for them.
_WRAPPERS = {
    "module": ("module", "model", "state_dict", "model_state_dict", "generator", "net"),
    "ema": ("ema", "ema_state_dict", "ema_model", "model_ema", "generator_ema"),
}
_FP8 = (torch.float8_e4m3fn, torch.float8_e5m2)


class PickleFile:
    """Reader of one `.pt` file with the interface of `SafetensorsFile`.

    The state dict may lie under "module" or "ema" (DeepSpeed), "state_dict", "ema_state_dict" and others, also one in
    another. load_key "module" or "ema" picks the trained weights or their average; without it the first present is
    taken. The scales of an official FP8 file (`*_map.pt` beside it, if it is there) appear as `<module>.weight_scale`.
    """

    def __init__(self, path: Path, load_key: str | None = None):
        self.path = path
        self.metadata: dict[str, str] = {}
        self._tensors = _state_dict(path, load_key)
        if any(tensor.dtype in _FP8 for tensor in self._tensors.values()):
            self._tensors |= _fp8_scales(path)
        self.infos = {name: TensorInfo(tuple(t.shape), t.dtype) for name, t in self._tensors.items()}

    def origin(self, name: str) -> Path:
        """The file a tensor comes from, for error messages."""
        return self.path

    def read_into(
        self,
        out: Tensor,  # the shape of what is read; any dtype or device
        name: str,
        rows: tuple[int, int] | None = None,
    ) -> None:
        """Copies tensor `name`, or its rows [first, last), into `out`, converting dtype and device."""
        tensor = self._tensors[name]
        out.copy_((tensor if rows is None else tensor[rows[0] : rows[1]]).reshape(out.shape))


def fp8_map_path(path: Path) -> Path:
    """File in which the official layout keeps the scales of an FP8 `.pt` file."""
    return path.with_name(f"{path.stem}_map{path.suffix}")


def _state_dict(path: Path, load_key: str | None) -> dict[str, Tensor]:
    content = _load(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}, not a state dict; give a file of named tensors")
    if load_key is not None:
        entry = next((name for name in _WRAPPERS.get(load_key, (load_key,)) if name in content), None)
        if entry is None:
            raise UserError(f"{path} has no '{load_key}' entry; its entries are {_first(content)}")
        content = content[entry]
    state = content
    while (inner := _wrapped(state)) is not None:
        state = inner
    odd = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if odd:
        raise UserError(
            f"{path}: entry '{odd[0]}' is a {type(state[odd[0]]).__name__}, not a tensor; give a state dict"
        )
    return dict(state)


def _wrapped(content: Any) -> dict[str, Any] | None:
    """The state dict in one of the entries of a table; None where the table is the state dict."""
    for name in (name for names in _WRAPPERS.values() for name in names):
        if isinstance(content.get(name), dict):
            return content[name]
    return None


def _fp8_scales(path: Path) -> dict[str, Tensor]:
    map_path = fp8_map_path(path)
    if not map_path.is_file():
        return {}
    scales = _load(map_path)
    if not isinstance(scales, dict) or not all(isinstance(value, Tensor) for value in scales.values()):
        raise UserError(f"{map_path} is not a table of FP8 scales; copy or download it again")
    return {f"{module}.weight_scale": scale for module, scale in scales.items()}


def _load(path: Path) -> Any:
    try:
        path.open("rb").close()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    try:
        return torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} contains Python objects other than tensors and was not opened, because they can run code; save "
            "its state dict as safetensors on a machine where you trust it"
        ) from error
    except Exception as error:  # torch calls what the bytes say with what the bytes say
        raise UserError(
            f"{path} is truncated, corrupt or in PyTorch's format from before 1.6; copy it again, or re-save it with "
            "torch.save"
        ) from error


def _first(names: dict[str, Any]) -> str:
    return ", ".join(str(name) for name in list(names)[:4]) + (", ..." if len(names) > 4 else "")
