"""Shared fixtures: where the golden files are, and what makes every run the same."""

from __future__ import annotations

import json
import os
from pathlib import Path

import hypothesis
import pytest
import torch
from safetensors import safe_open

ROOT = Path(__file__).resolve().parents[1]
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("repeatable")


def golden_folder() -> Path:
    return Path(os.environ.get("HUNYUAN_GOLDEN", ROOT.parent / "shared" / "golden"))


class Golden:
    """One golden case: its tensors by prefix ("weights", "in", "out", "mid") and its JSON facts."""

    def __init__(self, name: str):
        path = golden_folder() / f"{name}.safetensors"
        if not path.exists():
            pytest.skip(f"golden case {name} not found in {golden_folder()}; set HUNYUAN_GOLDEN to its folder")
        with safe_open(path, "pt") as file:
            self.tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (no mapping)
        self.facts = json.loads(path.with_suffix(".json").read_text())

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
        path = golden_folder() / f"{name}.json"
        if not path.exists():
            pytest.skip(f"golden facts {name} not found in {golden_folder()}; set HUNYUAN_GOLDEN to its folder")
        return json.loads(path.read_text())

    return load


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
