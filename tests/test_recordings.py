"""The recordings in tests/data/golden are those of the full folder, cut as their JSON says."""

from __future__ import annotations

import json

import pytest
import torch
from conftest import golden_file
from helpers.cut_recordings import CASES, KEY_LISTS, RECORDINGS, read, strides_of, thinned

MOST_BYTES = 8_000_000


@pytest.mark.parametrize("case", CASES)
def test_cut_tensors_are_the_recorded_ones(golden, case):
    recorded, ours = golden(case), read(RECORDINGS / f"{case}.safetensors")
    content = json.loads((RECORDINGS / f"{case}.json").read_text())
    assert ours.keys() == recorded.tensors.keys()
    for name, tensor in ours.items():
        strides = strides_of(case, name)
        assert content["cut"].get(name) == (strides and list(strides))
        whole = recorded.tensors[name]
        already_cut = name in recorded.facts.get("cut", {})  # the full folder is not here: the same file twice
        assert torch.equal(tensor, thinned(whole, strides) if strides and not already_cut else whole)


@pytest.mark.parametrize("name", KEY_LISTS)
def test_key_lists_are_the_recorded_ones(name):
    assert json.loads((RECORDINGS / f"{name}.json").read_text()) == json.loads(golden_file(f"{name}.json").read_text())


def test_recordings_are_small_and_complete():
    files = {path.name: path.stat().st_size for path in RECORDINGS.iterdir()}
    wanted = {f"{case}.{kind}" for case in CASES for kind in ("json", "safetensors")}
    assert set(files) == wanted | {f"{name}.json" for name in KEY_LISTS}
    assert sum(files.values()) < MOST_BYTES


def test_thinning_takes_every_nth_entry():
    x = torch.arange(24.0).view(2, 3, 4)
    assert torch.equal(thinned(x, (1, 2, 3)), torch.tensor([[[0.0, 3], [8, 11]], [[12, 15], [20, 23]]]))
