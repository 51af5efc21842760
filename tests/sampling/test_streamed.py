"""Streamed runs: the bits of loaded models in every mode, in less memory, and what is refused."""

from __future__ import annotations

import itertools
import threading

import pytest
import torch
from helpers.random_checkpoint import write_random_checkpoint

from hunyuan_video import HunyuanVideoPipeline
from hunyuan_video.cli.entry import main
from hunyuan_video.errors import ArgumentError, UserError
from hunyuan_video.models.lora import add_adapter, lora_layers
from hunyuan_video.models.transformer.streamed import sorted_state, stream_of
from hunyuan_video.sampling import Finished

PROMPTS = ["a red circle moves right", "a blue star"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_random_checkpoint(tmp_path_factory.mktemp("streamed"), guidance_embed=True)


def opened(folder, memory, keep=0, **options):
    pipe = HunyuanVideoPipeline.from_pretrained(folder, device="cpu", memory=memory, **options)
    if keep:
        stream_of(pipe.transformer).keep = keep
    return pipe


def made(pipe, prompts=PROMPTS, **options):
    return pipe(list(prompts), seed=5, num_inference_steps=3, output_type="pt", **options)


def same(first, second):
    return torch.equal(first.latents, second.latents) and torch.equal(first.frames, second.frames)


MATRIX = list(itertools.product([1, 2], [None, "bf16", "fp8", "int8"], ["auto", "exact", "tiled"]))


@pytest.mark.parametrize(("number", "batch", "precision", "vae"), [(i, *case) for i, case in enumerate(MATRIX)])
def test_streamed_bits_are_resident_bits(folder, number, batch, precision, vae):
    options = {"batch_size": batch, "vae_mode": vae}
    whole = made(opened(folder, "resident", precision=precision), **options)
    pipe = opened(folder, "stream", keep=number // 2 % 2, precision=precision)
    assert all(weight.is_meta for block in stream_of(pipe.transformer).blocks for weight in block.parameters())
    assert same(whole, made(pipe, **options)) and same(whole, made(pipe, **options))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads(folder, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert same(made(opened(folder, "resident")), made(opened(folder, "stream")))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("first", "then"), [("resident", "stream"), ("stream", "resident"), ("stream", "stream")])
@pytest.mark.parametrize("precision", [None, "fp8"])
def test_resumed_in_another_mode(folder, tmp_path, first, then, precision):
    whole = made(opened(folder, "resident", precision=precision))
    state = tmp_path / "state.safetensors"
    stream = opened(folder, first, precision=precision).stream(
        PROMPTS, seed=5, num_inference_steps=3, checkpoint_to=state, output_type="pt"
    )
    next(stream)
    stream.close()
    again = opened(folder, then, precision=precision)(resume_from=state, output_type="pt")
    assert same(whole, again)
    other = write_random_checkpoint(tmp_path / "other", seed=1, guidance_embed=True)
    with pytest.raises(UserError, match="cannot resume with another transformer"):
        opened(other, then)(resume_from=state)


def test_the_state_is_that_of_a_loaded_model(folder):
    loaded = opened(folder, "resident").transformer
    names, streamed = [], opened(folder, "stream").transformer
    for (name, tensor), (other, wanted) in zip(
        sorted_state(streamed), sorted(loaded.state_dict().items()), strict=True
    ):
        assert name == other and torch.equal(tensor, wanted)
        names.append(name)
    assert len(names) == len(loaded.state_dict())


def with_adapter(pipe, how):
    torch.manual_seed(3)
    paths = {"double_blocks.0.img_attn_qkv": 2, "double_blocks.0.img_mod.linear": 2, "single_blocks.0.linear1": 3}
    add_adapter(pipe.transformer, "style", paths, weight=0.7)
    for _, layer in lora_layers(pipe.transformer):
        for parameter in layer.adapters.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    if how != "attached":
        pipe.fuse_lora()
    if how == "merged":
        pipe.unload_lora_weights()
    return pipe


@pytest.mark.parametrize("how", ["attached", "fused", "merged"])
@pytest.mark.parametrize("precision", [None, "bf16", "fp8"])
def test_adapters(folder, how, precision):
    plain = made(opened(folder, "stream", precision=precision))
    whole, streamed = (opened(folder, memory, precision=precision) for memory in ("resident", "stream"))
    made(streamed)  # kept blocks of an earlier run must not stay
    results = [made(with_adapter(pipe, how)) for pipe in (whole, streamed)]
    stays = precision != "fp8" or how != "merged"  # nothing can be merged into codes
    assert same(*results) and same(results[1], plain) != stays
    assert whole.fingerprints() == streamed.fingerprints()
    if how == "fused":
        for pipe in (whole, streamed):
            pipe.unfuse_lora()
            pipe.disable_lora()
        assert same(made(streamed), plain)


def test_two_runs_at_once(folder):
    pipe = opened(folder, "stream", keep=1)
    wanted = [made(pipe, [prompt]) for prompt in PROMPTS]
    results = {}
    threads = [threading.Thread(target=lambda p=p: results.update({p: made(pipe, [p])})) for p in PROMPTS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(same(results[prompt], made) for prompt, made in zip(PROMPTS, wanted, strict=True))


def test_a_file_that_goes_away(folder, tmp_path):
    own = write_random_checkpoint(tmp_path / "own", guidance_embed=True)
    pipe = opened(own, "stream")
    stream = pipe.stream(PROMPTS[:1], seed=1, checkpoint_to=tmp_path / "state.safetensors", output_type="latent")
    next(stream)
    weights = own / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    with pytest.raises(UserError, match="while it was read"):
        list(stream)
    assert (tmp_path / "state.safetensors").exists()


def test_limits(folder):
    pipe = opened(folder, "auto", host_memory="20GB")
    assert stream_of(pipe.transformer) is None
    with pytest.raises(UserError, match="does not fit"):
        opened(folder, "auto", host_memory="100MB")
    with pytest.raises(ArgumentError, match="host_memory must be a size"):
        opened(folder, "auto", host_memory="much")
    with pytest.raises(ArgumentError, match="memory must be one of"):
        opened(folder, "fast")
    plan = pipe.plan(height=64, width=96, num_frames=9)
    assert plan.fits and plan.host_peak_bytes < 20e9 and plan.choices["device"] == "cpu"


def test_the_command(folder, tmp_path, capsys):
    command = ["sample", PROMPTS[0], "--model", str(folder), "--seed", "2", "--device", "cpu"]
    assert main([*command, "-o", str(tmp_path / "a.png"), "--contact-sheet", "--memory", "resident"]) == 0
    assert main([*command, "-o", str(tmp_path / "b.png"), "--contact-sheet", "--memory", "stream"]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith(("memory:", "chosen:", "fits"))]
    assert len(lines) == 6 and "memory stream" in lines[4]
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert main([*command, "-o", str(tmp_path / "c.png"), "--contact-sheet", "--host-memory", "50MB"]) == 1
    assert "does not fit" in capsys.readouterr().err and not (tmp_path / "c.png").exists()


def test_events_of_a_streamed_run(folder):
    events = list(opened(folder, "stream").stream(PROMPTS[:1], seed=1, num_inference_steps=2))
    assert isinstance(events[-1], Finished) and events[0].preview.shape[-1] == 3
