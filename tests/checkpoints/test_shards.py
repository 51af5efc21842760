"""A whole file beside an index, names in two shards: read as the part's own library reads them."""

import json
import warnings

import pytest
import torch
from helpers.tiny_models import TINY, randomized, same_weights
from safetensors.torch import load_file, save_file

from hunyuan_video.checkpoints.shards import open_shards
from hunyuan_video.checkpoints.sources import read
from hunyuan_video.checkpoints.text import open_weights
from hunyuan_video.errors import Notice, UserError
from hunyuan_video.models import HunyuanVideoTransformer

STEM = "diffusion_pytorch_model"


def model(seed: int) -> HunyuanVideoTransformer:
    torch.manual_seed(seed)
    return randomized(HunyuanVideoTransformer(TINY))


@pytest.fixture
def both(tmp_path):
    """A folder with the shards of model 0 and the whole file of model 1."""
    folder = model(0).save_pretrained(tmp_path / "transformer", max_shard_size=60_000)
    whole = model(1).save_pretrained(tmp_path / "whole")
    (whole / f"{STEM}.safetensors").rename(folder / f"{STEM}.safetensors")
    return folder


def test_diffusers_parts_follow_a_complete_index(both):
    with pytest.warns(Notice, match=f"{STEM}.safetensors.index.json is read, as diffusers does"):
        assert same_weights(HunyuanVideoTransformer.from_pretrained(both), model(0))


@pytest.mark.parametrize("damage", ["one shard gone", "all shards gone", "index cut"])
def test_an_index_without_its_shards_is_passed_over(both, damage):
    shards = sorted(both.glob("*-of-*.safetensors"))
    for file in {"one shard gone": shards[:1], "all shards gone": shards, "index cut": []}[damage]:
        file.unlink()
    if damage == "index cut":
        (both / f"{STEM}.safetensors.index.json").write_text('{"weight_map"')
    with pytest.warns(Notice, match="leftover without its shards"):
        assert same_weights(HunyuanVideoTransformer.from_pretrained(both), model(1))


def test_another_whole_file_beside_a_leftover(both):
    for file in both.glob("*-of-*.safetensors"):
        file.unlink()
    (both / f"{STEM}.safetensors").rename(both / "hunyuan.safetensors")
    with pytest.warns(Notice, match="hunyuan.safetensors is read"):
        assert same_weights(HunyuanVideoTransformer.from_pretrained(both), model(1))


def text_folder(folder, whole: float, shard: float):
    save_file({"w": torch.full((2,), whole)}, folder / "model.safetensors")
    save_file({"w": torch.full((2,), shard)}, folder / "model-00001-of-00001.safetensors")
    index = {"weight_map": {"w": "model-00001-of-00001.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def test_text_encoders_are_read_from_the_whole_file(tmp_path):
    folder = text_folder(tmp_path, whole=1.0, shard=2.0)
    with pytest.warns(Notice, match="model.safetensors is read, as transformers does"):
        assert read(open_weights(folder), "w")[0] == 1
    (folder / "model.safetensors").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(open_weights(folder), "w")[0] == 2


def test_of_a_name_in_two_shards_the_later_files_counts(tmp_path):
    names = ["m-00001-of-00002.safetensors", "m-00002-of-00002.safetensors"]
    save_file({"a": torch.zeros(2), "b": torch.zeros(2)}, tmp_path / names[0])
    save_file({"b": torch.ones(2), "c": torch.ones(2)}, tmp_path / names[1])
    index = tmp_path / "m.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": names[0], "b": names[0], "c": names[1]}}))
    with pytest.warns(Notice, match=r"1 tensors \(b"):
        source = open_shards(index)
    assert [read(source, key)[0].item() for key in "abc"] == [0, 1, 1]


def test_what_transformers_and_diffusers_do(both):
    """The rules above, asked of the libraries themselves."""
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.HunyuanVideoTransformer3DModel.from_pretrained(both)
    expected = load_file(sorted(both.glob("*-of-*.safetensors"))[0])
    state = theirs.state_dict()
    assert expected and all(torch.equal(state[name], value) for name, value in expected.items())


def test_an_index_that_is_none_is_one_line(tmp_path):
    (tmp_path / "m.safetensors.index.json").write_text('{"weight_map": {"a": "../x"}}')
    with pytest.raises(UserError, match="no 'weight_map' from keys to file names"):
        open_shards(tmp_path / "m.safetensors.index.json")
