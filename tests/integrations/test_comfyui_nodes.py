"""ComfyUI's nodes, run as ComfyUI runs them: in inference mode, with stand-ins for its progress bar and folders only.

test_comfyui_server.py runs them in the real program, where its source is at hand.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.random_checkpoint import write_random_checkpoint

from hunyuan_video import HunyuanVideoPipeline
from hunyuan_video.checkpoints.lora import save_adapter
from hunyuan_video.cli import main
from hunyuan_video.errors import ArgumentError
from hunyuan_video.integrations.comfyui import install as installing
from hunyuan_video.integrations.comfyui.nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS, given
from hunyuan_video.integrations.comfyui.values import GraphVAE
from hunyuan_video.models.lora import add_adapter, lora_layers, target_linears

PROMPT = "a red star moves left"
DEFAULTS = dict(seed=3, steps=2, guidance=-1.0, flow_shift=0.0, cfg=1.0, solver="as stored")


class Stopped(Exception):
    """ComfyUI's InterruptProcessingException."""


@pytest.fixture
def comfy(monkeypatch):
    """Modules of ComfyUI that the nodes use; `.bars` has what was shown, `.stop` interrupts the next step."""
    state = SimpleNamespace(bars=[], stop=False, loras={})

    class ProgressBar:
        def __init__(self, total):
            self.total = total

        def update_absolute(self, value, total=None, preview=None):
            state.bars.append((value, total, preview))

    def throw():
        if state.stop:
            raise Stopped

    modules = {name: ModuleType(name) for name in ("comfy", "comfy.utils", "comfy.model_management", "folder_paths")}
    modules["comfy"].utils, modules["comfy.utils"].ProgressBar = modules["comfy.utils"], ProgressBar
    modules["comfy.model_management"].throw_exception_if_processing_interrupted = throw
    modules["folder_paths"].get_filename_list = lambda kind: sorted(state.loras)
    modules["folder_paths"].get_full_path = lambda kind, name: state.loras.get(name)
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return state


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_random_checkpoint(tmp_path_factory.mktemp("random-checkpoint"))


@torch.inference_mode()
def node(name: str, **inputs):
    """Results of a node, called as ComfyUI calls it: by its FUNCTION, with every required input."""
    kind = NODE_CLASS_MAPPINGS[name]
    assert set(kind.INPUT_TYPES()["required"]) <= set(inputs)
    result = getattr(kind(), kind.FUNCTION)(**inputs)
    values = result["result"] if isinstance(result, dict) else result
    assert len(values) == len(kind.RETURN_TYPES) == len(kind.RETURN_NAMES)
    return values


@pytest.fixture
def loaded(checkpoint, comfy):
    return node("HunyuanVideoLoader", checkpoint=str(checkpoint), adapter="", precision="as stored", memory="auto")


def empty(batch: int = 1):
    return {"samples": torch.zeros(batch, 16, 2, 4, 6)}


def sampled(model, batch: int = 1, **changes):
    (positive, _) = node("HunyuanVideoTextEncode", model=model, text=PROMPT)
    inputs = {"positive": positive, "latent": empty(batch), **DEFAULTS, **changes}
    return node("HunyuanVideoSampler", model=model, **inputs)[0]["samples"]


def test_graph_gives_the_pipelines_video(loaded, checkpoint, comfy):
    model, _ = loaded
    samples = sampled(model, batch=2)
    pipe = HunyuanVideoPipeline.from_pretrained(checkpoint)
    out = pipe(
        PROMPT, seed=3, num_inference_steps=2, true_cfg_scale=1.0, num_videos_per_prompt=2, height=32, width=48,
        num_frames=5,
    )  # fmt: skip
    torch.testing.assert_close(samples * pipe.vae.config.scaling_factor, out.latents, rtol=1e-6, atol=1e-6)
    (frames,) = node("HunyuanVideoDecode", model=model, latent={"samples": samples}, mode="exact", budget_gb=1.0)
    assert frames.shape == (10, 32, 48, 3) and frames.dtype == torch.float32
    assert np.abs(frames.numpy() * 255 - out.frames.reshape(10, 32, 48, 3)).max() <= 0.51
    assert [bar[:2] for bar in comfy.bars] == [(1, 2), (2, 2)]
    kind, picture, side = comfy.bars[0][2]
    assert (kind, side) == ("JPEG", 512) and picture.size == (12 * 42, 4 * 42)  # two videos side by side
    assert not samples.is_inference() and not frames.is_inference()
    samples.add_(1)  # of inference mode it could not be changed here


def test_videos_of_a_batch_do_not_depend_on_it(loaded):
    both = sampled(loaded[0], batch=2)
    assert torch.equal(both[1:], sampled(loaded[0], seed=4))
    assert torch.equal(both[:1], sampled(loaded[0]))


def test_interruption_is_raised_in_the_node(loaded, comfy):
    comfy.stop = True
    with pytest.raises(Stopped):
        sampled(loaded[0])
    comfy.stop = False
    assert sampled(loaded[0]).isfinite().all()


def test_negative_prompt_counts_where_guidance_is_on(loaded):
    (negative, _) = node("HunyuanVideoTextEncode", model=loaded[0], text="a blue circle")
    plain, guided = sampled(loaded[0]), sampled(loaded[0], cfg=4.0, negative=negative)
    assert not torch.equal(plain, guided)
    assert torch.equal(guided, sampled(loaded[0], cfg=4.0, negative=negative))


def test_vae_answers_comfyuis_own_nodes(loaded):
    model, vae = loaded
    samples = sampled(model)
    frames = vae.decode(samples)
    assert frames.shape == (1, 5, 32, 48, 3)
    tiles = dict(tile_x=8, tile_y=8, overlap=2, tile_t=4, overlap_t=1)
    torch.testing.assert_close(vae.decode_tiled(samples, **tiles), frames, rtol=1e-4, atol=1e-5)
    latents = vae.encode(frames[0])
    with torch.no_grad():
        wanted = model.pipe.vae.encode(frames.permute(0, 4, 1, 2, 3) * 2 - 1).mode()
    torch.testing.assert_close(latents, wanted, rtol=1e-4, atol=1e-4)
    assert vae.encode(torch.rand(7, 37, 50, 4)).shape == (1, 16, 2, 4, 6)  # the largest part that has latents
    assert (vae.temporal_compression_decode(), vae.spacial_compression_decode()) == (4, 8)


def test_lora_is_of_its_branch_only(loaded, comfy, tmp_path):
    model, _ = loaded
    plain = sampled(model)
    for seed, name in enumerate(("first", "second")):
        other = HunyuanVideoPipeline.from_pretrained(model.pipe.name).transformer
        torch.manual_seed(seed)
        add_adapter(other, name, dict.fromkeys(target_linears(other), 2))
        for _, layer in lora_layers(other):
            torch.nn.init.normal_(layer.adapter(name).lora_B, std=0.3)
        comfy.loras[name] = str(tmp_path / f"{name}.safetensors")
        save_adapter(other, name, Path(comfy.loras[name]), dtype=torch.float32)
    (one,) = node("HunyuanVideoLora", model=model, file="first", strength=1.0)
    (both,) = node("HunyuanVideoLora", model=one, file="second", strength=0.5)
    styled = sampled(one)
    assert not torch.equal(styled, plain)
    assert not torch.equal(sampled(both), styled)
    assert torch.equal(sampled(one), styled)
    torch.testing.assert_close(sampled(model), plain, rtol=1e-5, atol=1e-5)
    with pytest.raises(ArgumentError, match="no file 'third'"):
        node("HunyuanVideoLora", model=model, file="third", strength=1.0)


def test_plan_says_bytes_of_each_stage(loaded):
    (text,) = node("HunyuanVideoPlan", model=loaded[0], latent=empty(), steps=2)
    plan = loaded[0].pipe.plan(height=32, width=48, num_frames=5, num_inference_steps=2)
    assert [line.split(":")[0] for line in text.splitlines()][: len(plan.stages)] == [s.name for s in plan.stages]
    assert "GB" in text and "fits" in text


def conditioning(**changes):
    return [[torch.zeros(1, 4, 16), {"pooled_output": torch.zeros(1, 16), **changes}]]


REFUSED = {
    "latent must be": {"latent": {"samples": torch.zeros(1, 4, 8, 8)}},
    "latent is not empty": {"latent": {"samples": torch.ones(1, 16, 2, 4, 6)}},
    "noise mask": {"latent": {**empty(), "noise_mask": torch.ones(1, 1, 32, 48)}},
    "2 conditionings": {"positive": conditioning() * 2},
    "'strength', which this sampler": {"positive": conditioning(strength=0.5)},
    "no pooled_output": {"positive": [[torch.zeros(1, 4, 16), {}]]},
    "is for 3 videos": {"positive": [[torch.zeros(3, 4, 16), {"pooled_output": torch.zeros(3, 16)}]]},
    "must be .* for this model": {"positive": [[torch.zeros(1, 4, 7), {"pooled_output": torch.zeros(1, 16)}]]},
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_cannot_be_sampled_ends_in_one_line(text, loaded):
    with pytest.raises(ArgumentError, match=text) as refused:
        sampled(loaded[0], **REFUSED[text])
    assert "\n" not in str(refused.value)


def test_without_a_vae_decoding_is_refused():
    with pytest.raises(ArgumentError, match="without its vae"):
        GraphVAE(SimpleNamespace(vae=None)).decode(torch.zeros(1, 16, 1, 2, 2))


def test_what_is_not_set_is_the_checkpoints():
    assert given(a="as stored", b="", c=None, d=0.0, e="x") == {"d": 0.0, "e": "x"}
    assert NODE_CLASS_MAPPINGS.keys() == NODE_DISPLAY_NAME_MAPPINGS.keys()


def test_example_workflow_names_nodes_and_inputs_that_are_there(comfy):
    workflow = json.loads((installing.PACK / "example_workflows" / "text_to_video.json").read_text())
    ours = {number: step for number, step in workflow.items() if step["class_type"] in NODE_CLASS_MAPPINGS}
    assert len(ours) == 5
    for step in ours.values():
        known = NODE_CLASS_MAPPINGS[step["class_type"]].INPUT_TYPES()
        assert set(known["required"]) <= set(step["inputs"]) <= {*known["required"], *known.get("optional", {})}
        for name, value in step["inputs"].items():
            if isinstance(value, list):  # a wire: [node, output]
                kind = workflow[value[0]]["class_type"]
                types = NODE_CLASS_MAPPINGS[kind].RETURN_TYPES if kind in NODE_CLASS_MAPPINGS else ("LATENT",)
                assert types[value[1]] == known["required"][name][0]


def test_install_copies_and_replaces(tmp_path, capsys):
    nodes = tmp_path / "ComfyUI" / "custom_nodes"
    nodes.mkdir(parents=True)
    for _ in range(2):
        assert main(["comfyui", "install", str(nodes)]) == 0
    target = nodes / installing.NAME
    assert "restart ComfyUI" in capsys.readouterr().out
    assert (target / "__init__.py").read_text() == (installing.PACK / "__init__.py").read_text()
    assert (target / "example_workflows" / "text_to_video.json").is_file()
    space: dict = {}
    exec(compile((target / "__init__.py").read_text(), "pack", "exec"), space)
    assert space["NODE_CLASS_MAPPINGS"] is NODE_CLASS_MAPPINGS


def test_install_links(tmp_path):
    assert main(["comfyui", "install", str(tmp_path), "--link"]) == 0
    assert (tmp_path / installing.NAME).resolve() == installing.PACK.resolve()
    assert main(["comfyui", "install", str(tmp_path)]) == 0  # a copy in the link's place; the package is untouched
    assert not (tmp_path / installing.NAME).is_symlink() and (installing.PACK / "__init__.py").is_file()


@pytest.mark.parametrize("place", ["missing", "comfyui", "foreign", "linked over a copy"])
def test_install_refuses_and_changes_nothing(place, tmp_path, capsys):
    folder, more = tmp_path, []
    if place == "missing":
        folder = tmp_path / "none"
    elif place == "comfyui":
        (tmp_path / "custom_nodes").mkdir()
    else:
        (tmp_path / installing.NAME).mkdir()
        (tmp_path / installing.NAME / "notes.txt").write_text("of a person")
        more = ["--link"] if place == "linked over a copy" else []
    before = sorted(tmp_path.rglob("*"))
    assert main(["comfyui", "install", str(folder), *more]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before
