"""Memory that runs out in a step or in the decode: the run goes on with less, and its video is the same."""

from __future__ import annotations

import warnings

import pytest
import torch
from helpers.random_checkpoint import write_random_checkpoint

from hunyuan_video import HunyuanVideoPipeline, UserError
from hunyuan_video.cli.entry import main
from hunyuan_video.errors import Notice
from hunyuan_video.models import CausalVAE, HunyuanVideoTransformer
from hunyuan_video.models.transformer.chunks import TokenChunks
from hunyuan_video.models.transformer.streamed import stream_of
from hunyuan_video.sampling import retreat
from hunyuan_video.sampling.resume_state import SamplingState

PROMPT = "a red star moves left"
RUN = {"seed": 3, "num_inference_steps": 4, "output_type": "pt"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_random_checkpoint(tmp_path_factory.mktemp("retreat"))


@pytest.fixture
def opened(folder, monkeypatch):
    """A pipeline as on a GPU, whose memory is not the host's, with sequences that are long for its parts."""
    monkeypatch.setattr(retreat, "beside_host", lambda _: True)
    monkeypatch.setattr(retreat, "LEAST_PART", 16)
    return HunyuanVideoPipeline.from_pretrained(folder, device="cpu")


def failing(pipe, monkeypatch, calls, error=torch.OutOfMemoryError):
    """Blocks run out of memory in the middle, at these calls of the last one."""
    count = [0]

    def full(*_):
        count[0] += 1
        if count[0] in calls:
            raise error("CUDA out of memory. Tried to allocate 20.00 GiB")

    pipe.transformer.single_blocks[-1].register_forward_pre_hook(full)


def made(pipe, **arguments):
    with warnings.catch_warnings(record=True) as notices:
        warnings.simplefilter("always", Notice)
        out = pipe(PROMPT, **{**RUN, **arguments})
    return out, [str(notice.message) for notice in notices if issubclass(notice.category, Notice)]


@pytest.mark.parametrize(
    "arguments",
    [{}, {"solver": "ab2"}, {"cache": "linear:1"}, {"attention": "sliding_tile", "solver": "heun"}],
    ids=str,
)
def test_a_step_without_memory_is_made_again(opened, monkeypatch, arguments):
    wanted, _ = made(opened, **arguments)
    failing(opened, monkeypatch, (2, 3) if "cache" not in arguments else (2,))
    out, lines = made(opened, **arguments)
    assert torch.equal(out.frames, wanted.frames)
    retreats = [line for line in lines if line.startswith("out of memory in step")]
    assert "blocks work on 16 tokens at a time; the run goes on" in retreats[0]
    if "cache" not in arguments:
        assert "weights wait in host memory and come block by block; the run goes on" in retreats[1]
        assert stream_of(opened.transformer) is not None
    assert next(x.tokens for x in opened.transformer.executor.layers if isinstance(x, TokenChunks)) == 16


def test_without_a_way_left_the_state_continues(opened, monkeypatch, tmp_path, folder):
    path = tmp_path / "run.safetensors"
    wanted, _ = made(opened)
    failing(opened, monkeypatch, (2, 3, 4), MemoryError)
    with pytest.raises(UserError, match="not enough memory for sampling; lower height"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        opened(PROMPT, checkpoint_to=path, **RUN)
    assert SamplingState.load(path).step == 1
    again = HunyuanVideoPipeline.from_pretrained(folder, device="cpu")
    assert torch.equal(again(resume_from=path, output_type="pt").frames, wanted.frames)


def test_streamed_runs_keep_no_block(folder, monkeypatch):
    pipe = HunyuanVideoPipeline.from_pretrained(folder, device="cpu", memory="stream")
    wanted, _ = made(pipe)
    stream_of(pipe.transformer).keep = 2
    failing(pipe, monkeypatch, (2,))
    out, lines = made(pipe)
    assert torch.equal(out.frames, wanted.frames) and "no block stays in memory between steps" in lines[0]
    assert stream_of(pipe.transformer).keep == 0


def test_other_faults_are_not_taken_for_memory(opened, monkeypatch):
    failing(opened, monkeypatch, (2,), lambda _: RuntimeError("shape mismatch"))
    with pytest.raises(RuntimeError, match="shape mismatch"):
        opened(PROMPT, **RUN)


@pytest.mark.parametrize("failures", [1, 2])
def test_a_decode_without_memory_is_made_again_exactly(opened, monkeypatch, failures):
    plain, _ = made(opened)
    real, tries = CausalVAE.decode, []

    def decode(self, latents, *, mode, memory_budget):
        tries.append((mode, memory_budget))
        if len(tries) <= failures:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, latents, mode=mode, memory_budget=memory_budget)

    monkeypatch.setattr(CausalVAE, "decode", decode)
    out, lines = made(opened)
    assert tries == [("plain", None), ("exact", 1 << 30), ("exact", 1 << 28)][: failures + 1]
    assert (out.frames - plain.frames).abs().max() < 1e-4 and len(lines) == failures
    assert lines[-1].startswith("not enough memory for decoding: it is done again in exact mode, ")


def test_a_decode_that_never_fits_says_how_to_go_on(opened, monkeypatch, tmp_path):
    def decode(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(CausalVAE, "decode", decode)
    with pytest.raises(UserError, match="not enough memory for decoding; use vae_mode"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made(opened)


def test_the_command_line_tells_it_in_a_line(folder, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(retreat, "beside_host", lambda _: True)
    real, tries = HunyuanVideoTransformer.run_blocks, []

    def run_blocks(*arguments, **named):
        tries.append(1)
        if len(tries) == 1:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
        return real(*arguments, **named)

    monkeypatch.setattr(HunyuanVideoTransformer, "run_blocks", run_blocks)
    words = [
        "sample",
        PROMPT,
        "--model",
        str(folder),
        "--seed",
        "1",
        "--num-frames",
        "1",
        "-o",
        str(tmp_path / "a.png"),
    ]
    code, error = main(words), capsys.readouterr().err
    assert code == 0 and error.count("out of memory in step 1 of 4: weights wait in host memory") == 1
