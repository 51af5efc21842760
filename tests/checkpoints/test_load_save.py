"""Files, folders and pipelines in, the same weights out; nothing half-written."""

from __future__ import annotations

import json
import os

import pytest
import torch
from helpers.tiny_models import TINY, same_weights
from safetensors.torch import load_file, save_file

from hunyuan_video.checkpoints import save
from hunyuan_video.errors import UserError
from hunyuan_video.models import CausalVAE, HunyuanVideoTransformer

MODELS = {"transformer": HunyuanVideoTransformer, "vae": CausalVAE}


@pytest.fixture(params=MODELS)
def model(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("layout", ["diffusers", "official"])
@pytest.mark.parametrize("name", ["folder", "single.safetensors"])
def test_save_then_load_is_exact(tmp_path, model, layout, name):
    path = model.save_pretrained(tmp_path / name, layout)
    loaded = type(model).from_pretrained(path)
    assert loaded.config == model.config
    assert same_weights(loaded, model)
    assert not loaded.training
    assert all(p.requires_grad for p in loaded.parameters())
    assert sorted(os.listdir(tmp_path)) == [name]


def test_the_weight_file_itself_may_be_given(tmp_path, model):
    path = model.save_pretrained(tmp_path / "a")
    loaded = type(model).from_pretrained(path / "diffusion_pytorch_model.safetensors")
    assert loaded.config == model.config and same_weights(loaded, model)


@pytest.mark.parametrize("load_key", ["module", "ema"])
def test_official_root_with_deepspeed_file(tmp_path, transformer, vae, load_key):
    folder = tmp_path / "ckpts" / "hunyuan-video-t2v-720p" / "transformers"
    folder.mkdir(parents=True)
    state = {name: tensor.bfloat16() for name, tensor in transformer.state_dict().items()}
    torch.save({load_key: state, "other": {}}, folder / "mp_rank_00_model_states.pt")
    vae.save_pretrained(folder.parent / "vae", "official")
    for path in (tmp_path / "ckpts", folder.parent, folder, folder / "mp_rank_00_model_states.pt"):
        loaded = HunyuanVideoTransformer.from_pretrained(path, load_key=load_key)
        assert loaded.config == TINY
        assert same_weights(loaded, transformer.bfloat16())
    assert same_weights(CausalVAE.from_pretrained(tmp_path / "ckpts"), vae)


def test_official_folder_with_another_file_name(tmp_path, transformer):
    torch.save(transformer.state_dict(), tmp_path / "pytorch_model_7.pt")
    assert same_weights(HunyuanVideoTransformer.from_pretrained(tmp_path), transformer)


def test_official_names_are_the_released_ones(tmp_path, transformer, vae):
    transformer.save_pretrained(tmp_path / "t", "official")
    vae.save_pretrained(tmp_path / "v", "official")
    assert sorted(os.listdir(tmp_path / "t")) == ["config.json", "mp_rank_00_model_states.pt"]
    assert sorted(os.listdir(tmp_path / "v")) == ["config.json", "pytorch_model.pt"]
    state = torch.load(tmp_path / "t" / "mp_rank_00_model_states.pt", weights_only=True)
    assert list(state) == ["module"] and state["module"].keys() == transformer.state_dict().keys()


def test_vae_file_with_wrappers(tmp_path, vae):
    state = {f"vae.{name}": tensor for name, tensor in vae.state_dict().items()}
    torch.save({"state_dict": state | {"loss.weight": torch.ones(1)}}, tmp_path / "pytorch_model.pt")
    (tmp_path / "config.json").write_text(json.dumps(vae.config.to_dict("official")))
    loaded = CausalVAE.from_pretrained(tmp_path)
    assert loaded.config == vae.config and same_weights(loaded, vae)


def test_one_file_with_a_whole_pipeline(tmp_path, transformer, vae):
    tensors = {f"model.diffusion_model.{k}": v for k, v in transformer.state_dict().items()}
    tensors |= {f"vae.{k}": v for k, v in vae.state_dict().items()}
    tensors["text_encoders.clip_l.weight"] = torch.ones(2)
    save_file(tensors, tmp_path / "all.safetensors")
    assert same_weights(HunyuanVideoTransformer.from_pretrained(tmp_path / "all.safetensors"), transformer)
    assert CausalVAE.from_pretrained(tmp_path / "all.safetensors").state_dict().keys() == vae.state_dict().keys()


def test_diffusers_pipeline_root(tmp_path, transformer, vae):
    transformer.save_pretrained(tmp_path / "transformer")
    vae.save_pretrained(tmp_path / "vae")
    assert same_weights(HunyuanVideoTransformer.from_pretrained(tmp_path), transformer)
    assert same_weights(CausalVAE.from_pretrained(str(tmp_path)), vae)


def test_without_config_the_shapes_tell(tmp_path, transformer):
    transformer.save_pretrained(tmp_path / "a")
    (tmp_path / "a" / "config.json").unlink()
    loaded = HunyuanVideoTransformer.from_pretrained(tmp_path / "a")
    assert loaded.config == TINY and same_weights(loaded, transformer)


def test_a_config_of_something_else_beside_a_file_is_ignored(tmp_path, transformer):
    path = transformer.save_pretrained(tmp_path / "a.safetensors")
    (tmp_path / "config.json").write_text('{"_class_name": "SomethingElse"}')
    assert HunyuanVideoTransformer.from_pretrained(path).config == TINY


def test_dtype(tmp_path, transformer):
    path = transformer.save_pretrained(tmp_path / "a")
    loaded = HunyuanVideoTransformer.from_pretrained(path, dtype=torch.bfloat16)
    assert same_weights(loaded, transformer.bfloat16())
    path = loaded.save_pretrained(tmp_path / "b")
    assert HunyuanVideoTransformer.from_pretrained(path).dtype == torch.bfloat16


def test_mixed_file_gets_its_prevailing_dtype(tmp_path, transformer):
    """The released file keeps final_layer.linear in float32 amid bfloat16; a model of two dtypes could not run."""
    state = transformer.bfloat16().state_dict()
    state["final_layer.linear.weight"] = state["final_layer.linear.weight"].float()
    save_file(state, tmp_path / "a.safetensors")
    loaded = HunyuanVideoTransformer.from_pretrained(tmp_path / "a.safetensors")
    assert {p.dtype for p in loaded.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("layout", ["diffusers", "official"])
def test_shards(tmp_path, transformer, layout):
    path = transformer.save_pretrained(tmp_path / "a", layout, max_shard_size=60_000)
    if layout == "official":
        assert len(list(path.glob("*.pt"))) == 1
        return
    index = json.loads((path / "diffusion_pytorch_model.safetensors.index.json").read_text())
    files = sorted(set(index["weight_map"].values()))
    assert len(files) > 2 and files[0] == f"diffusion_pytorch_model-00001-of-{len(files):05}.safetensors"
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in transformer.state_dict().values())
    for file in files:
        tensors = load_file(path / file)
        assert len(tensors) == 1 or sum(t.nbytes for t in tensors.values()) <= 60_000
        assert all(index["weight_map"][name] == file for name in tensors)
    assert same_weights(HunyuanVideoTransformer.from_pretrained(path), transformer)


def test_saving_again_replaces_the_old_checkpoint(tmp_path, transformer):
    path = transformer.save_pretrained(tmp_path / "a", max_shard_size=60_000)
    with torch.no_grad():
        transformer.img_in.proj.bias += 1
    transformer.save_pretrained(path)
    assert sorted(os.listdir(path)) == ["config.json", "diffusion_pytorch_model.safetensors"]
    assert same_weights(HunyuanVideoTransformer.from_pretrained(path), transformer)


def test_a_folder_with_other_things_is_left_alone(tmp_path, transformer):
    (tmp_path / "photos").mkdir()
    with pytest.raises(UserError, match="holds other things .photos.; save into a new or an empty folder"):
        transformer.save_pretrained(tmp_path)
    assert os.listdir(tmp_path) == ["photos"]


@pytest.mark.parametrize("name", ["folder", "a.safetensors", "a.pt"])
@pytest.mark.parametrize("existing", [False, True])
def test_a_failed_save_changes_nothing(tmp_path, transformer, monkeypatch, name, existing):
    """The disk fills up after some tensors."""
    path = tmp_path / name
    if existing:
        transformer.save_pretrained(path, "official")
    before = {f: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()}
    read, left = save.read, [5]

    def full(*args):
        raise OSError(28, "No space left on device")

    def nearly_full(*args):
        left[0] -= 1
        return full() if left[0] < 0 else read(*args)

    monkeypatch.setattr(save, "read", nearly_full)
    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match=r"cannot write .*: No space left on device"):
        transformer.save_pretrained(path, "official")
    assert {f: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()} == before
    assert sorted(os.listdir(tmp_path)) == ([name] if existing else [])


def test_unwritable_place(tmp_path, transformer):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file" / "a", tmp_path / "file" / "a.safetensors"):
        with pytest.raises(UserError, match="cannot write .*file/a"):
            transformer.save_pretrained(path)
    with pytest.raises(UserError, match="is a file; give a folder"):
        transformer.save_pretrained(tmp_path / "file")


def test_bad_arguments(tmp_path, transformer):
    with pytest.raises(ValueError, match="layout='comfy' is unknown; use 'diffusers' or 'official'"):
        transformer.save_pretrained(tmp_path / "a", "comfy")
    with pytest.raises(UserError, match=r"\.pt files have the official layout"):
        transformer.save_pretrained(tmp_path / "a.pt")
    with pytest.raises(ValueError, match="max_shard_size=0 must be a positive number"):
        transformer.save_pretrained(tmp_path / "a", max_shard_size=0)
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("size", [10, 1_000_000])
def test_pytorch_on_a_full_disk(size):
    with pytest.raises(OSError), open("/dev/full", "wb") as file:
        save._torch_save({"a": torch.ones(size)}, file)
