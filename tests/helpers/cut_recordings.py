"""Cuts the recordings in tests/data/golden from the full ones: `python tests/helpers/cut_recordings.py FULL_FOLDER`.

The full folder holds cases recorded from the released program: random weights, inputs, what the program computed from
them, and the versions it ran with. A cut is a few of its cases with tensors left out or thinned: `THINNED` gives a
stride for each dimension, and the case's JSON repeats it under "cut", so that a test thins its own result alike.
Values are copied bit for bit; nothing here is computed.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

RECORDINGS = Path(__file__).resolve().parents[1] / "data" / "golden"
CASES = ("dit_single_text_token", "fp8_linear", "pipeline_cfg", "rope", "scheduler", "text_encode", "vae_tiled")
KEY_LISTS = ("official_13b_keys", "diffusers_13b_keys", "official_vae_keys", "diffusers_vae_keys")
# Case -> tensor names (a regular expression) -> stride of each dimension.
THINNED = {
    "rope": {
        r"out\.\d\.rows": (4,),
        r"out\.\d\.(cos|sin)": (4, 1),
        r"in\.\d\.[qk]": (1, 4, 1, 1),
        r"out\.\d\.[qk]_rot": (1, 4, 1, 1),
    },
    "vae_tiled": {r"out\.decode_\w+": (1, 1, 1, 4, 4)},
}


def strides_of(case: str, name: str) -> tuple[int, ...] | None:
    """Strides with which a tensor of a case is thinned; None for one that is kept whole."""
    matches = [strides for pattern, strides in THINNED.get(case, {}).items() if re.fullmatch(pattern, name)]
    return matches[0] if matches else None


def thinned(tensor: torch.Tensor, strides: tuple[int, ...] | list[int]) -> torch.Tensor:
    """Every `strides[i]`-th entry along each dimension i."""
    return tensor[tuple(slice(None, None, stride) for stride in strides)].contiguous()


def read(path: Path) -> dict[str, torch.Tensor]:
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)


def cut(full: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for case in CASES:
        tensors, cuts = read(full / f"{case}.safetensors"), {}
        for name, tensor in tensors.items():
            if strides := strides_of(case, name):
                tensors[name], cuts[name] = thinned(tensor, strides), strides
        save_file(tensors, folder / f"{case}.safetensors")
        content = json.loads((full / f"{case}.json").read_text())
        content.pop("tensors")  # shapes: the file itself has them
        (folder / f"{case}.json").write_text(json.dumps({**content, "cut": cuts}, indent=1) + "\n")
    for name in KEY_LISTS:
        content = json.loads((full / f"{name}.json").read_text())
        lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(shape)}" for key, shape in content.items())
        (folder / f"{name}.json").write_text("{\n" + lines + "\n}\n")


if __name__ == "__main__":
    cut(Path(sys.argv[1]), RECORDINGS)
