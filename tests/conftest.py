"""Shared fixtures: where the golden files are, and what makes every run the same."""

from __future__ import annotations

import json
import os
from pathlib import Path

import hypothesis
import pytest
import torch
from helpers.cut_recordings import RECORDINGS, read, thinned

ROOT = Path(__file__).resolve().parents[1]
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("repeatable")


def golden_folder() -> Path:
    """Folder of the full recordings where there is one, else the few that the repository has."""
    full = Path(os.environ.get("HUNYUAN_GOLDEN", ROOT.parent / "shared" / "golden"))
    return full if "HUNYUAN_GOLDEN" in os.environ or full.is_dir() else RECORDINGS


def golden_file(name: str) -> Path:
    """File of the golden folder; skips the test where it is absent."""
    path = golden_folder() / name
    if not path.exists():
        pytest.skip(f"golden case {path.stem} not found in {path.parent}; set HUNYUAN_GOLDEN to the full folder")
    return path


class Golden:
    """One golden case: its tensors by prefix ("weights", "in", "out", "mid") and its JSON facts."""

    def __init__(self, name: str):
        path = golden_file(f"{name}.safetensors")
        self.tensors = read(path)
        self.facts = json.loads(path.with_suffix(".json").read_text())

    def cut(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """A result, thinned as the recorded tensor of that name is; as it is where that one is whole."""
        return thinned(tensor, self.facts.get("cut", {}).get(name, [1] * tensor.ndim))

    def part(self, prefix: str) -> dict[str, torch.Tensor]:
        return {k[len(prefix) + 1 :]: v for k, v in self.tensors.items() if k.startswith(prefix + ".")}


@pytest.fixture
def golden():
    """`golden("dit_video_guid")` -> Golden; skips the test where the folder is absent."""
    return Golden


@pytest.fixture
def golden_facts():
    """`golden_facts("official_13b_keys")` -> content of the JSON file; skips the test where the folder is absent."""

    def load(name: str):
        return json.loads(golden_file(f"{name}.json").read_text())

    return load


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
