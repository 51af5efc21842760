"""`sample`, `show` and `decode` as a person uses them."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from hunyuan_video import HunyuanVideoPipeline
from hunyuan_video.errors import UserError
from hunyuan_video.media.metadata import read_metadata
from hunyuan_video.sampling.resume_state import SamplingState
from hunyuan_video.sampling.run import SampleStream

PROMPT = "a red star moves left"


def names(folder) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def frames(path) -> np.ndarray:
    import av

    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_sample_writes_every_format_and_nothing_else(sample, work):
    result = sample(PROMPT, "--seed", 3, "-o", "a.mp4", "-o", "a.gif", "-o", "a.webp", "-o", "frames/")
    assert (result.code, result.out) == (0, "a.mp4\na.gif\na.webp\nframes/\n")
    assert names(work) == ["a.gif", "a.mp4", "a.webp", "frames"]
    assert frames(work / "a.mp4").shape == (5, 32, 48, 3) and len(names(work / "frames")) == 5


@pytest.mark.parametrize("ending", ["mp4", "gif", "webp"])
def test_the_same_command_gives_the_same_bytes_under_any_name(sample, work, ending):
    assert sample(PROMPT, "--seed", 3, "-o", f"a.{ending}").code == 0
    assert sample(PROMPT, "--seed", 3, "-o", f"b.{ending}", "--checkpoint-every", 2).code == 0
    assert (work / f"a.{ending}").read_bytes() == (work / f"b.{ending}").read_bytes()


def test_flags_reach_the_pipeline(sample, work, checkpoint):
    words = "--height 48 --width 32 --num-frames 1 --num-inference-steps 3 --true-cfg-scale 2 --guidance-rescale 0.5"
    words += " --flow-shift 4 --solver heun --vae-mode plain --num-videos-per-prompt 2 --seed 7"
    result = sample(PROMPT, *words.split(), "--negative-prompt", "a blue circle", "-o", "a.png")
    assert result.code == 0 and names(work) == ["a-001.png", "a-002.png"]
    out = HunyuanVideoPipeline.from_pretrained(checkpoint, device="cpu")(
        PROMPT, "a blue circle", height=48, width=32, num_frames=1, num_inference_steps=3, true_cfg_scale=2.0,
        guidance_rescale=0.5, flow_shift=4.0, solver="heun", vae_mode="plain", num_videos_per_prompt=2, seed=7,
    )  # fmt: skip
    for name, expected in zip(names(work), out.frames, strict=True):
        assert np.array_equal(np.asarray(Image.open(work / name)), expected[0])


def test_prompt_file_makes_numbered_videos_that_equal_single_ones(sample, work):
    (work / "prompts.txt").write_text(f"# two prompts\n{PROMPT}\n\n a green circle \n")
    result = sample("--prompt-file", "prompts.txt", "--seed", 5, "-o", "out.webp")
    assert result.code == 0 and names(work) == ["out-001.webp", "out-002.webp", "prompts.txt"]
    assert read_metadata("out-002.webp")["prompt"] == "a green circle"
    assert sample("a green circle", "--seed", 5, "-o", "single.webp").code == 0
    for first, second in zip(*(webp_frames(name) for name in ("out-002.webp", "single.webp")), strict=True):
        assert np.array_equal(first, second)


def webp_frames(name) -> list[np.ndarray]:
    with Image.open(name) as image:
        pictures = []
        for i in range(image.n_frames):
            image.seek(i)
            pictures.append(np.asarray(image.convert("RGB")))
        return pictures


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a.webp", "frames/"])
def test_show_prints_a_command_that_makes_the_file_again(sample, command, work, name):
    assert sample(PROMPT, "--num-videos-per-prompt", 2, "--negative-prompt", 'it\'s "blue"', "-o", name).code == 0
    second = [entry for entry in names(work) if "-002" in entry][0]
    before = read_metadata(second)
    shown = command("show", second)
    assert shown.code == 0 and shown.out.count("\n") == 1
    words = shlex.split(shown.out)
    assert words[:3] == ["hunyuan-video", "sample", PROMPT] and words[words.index("--seed") + 1] == str(before["seed"])
    path = work / second
    content = [file.read_bytes() for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    assert command(*words[1:]).code == 0
    assert [file.read_bytes() for file in (sorted(path.iterdir()) if path.is_dir() else [path])] == content
    metadata = json.loads(command("show", "--json", second).out)
    assert metadata["prompt"] == PROMPT and metadata["settings"]["num_inference_steps"] == 4 and metadata["version"]


def test_a_random_seed_is_told(sample, work):
    result = sample(PROMPT, "-o", "a.png", "--num-frames", 1)
    seed = next(line for line in result.err.splitlines() if line.startswith("seed "))
    assert read_metadata("a.png")["seed"] == int(seed.split()[1])


def test_default_names_say_prompt_and_seed(sample, work):
    assert sample("A red star, moves left!", "--seed", 3).out == "a-red-star-moves-left-seed3.mp4\n"
    assert sample(PROMPT, "--seed", 3, "--num-frames", 1).out == "a-red-star-moves-left-seed3.png\n"


def test_dropped_words_are_told(sample, work):
    result = sample("a red star moves left up on gray background", "--num-frames", 1, "-o", "a.png")
    assert result.code == 0
    assert "note: the text encoder reads 8 tokens and did not see: 'background'" in result.err


def test_guidance_scale_without_effect_is_told(sample, work):
    result = sample(PROMPT, "--guidance-scale", 6, "--num-frames", 1, "-o", "a.png")
    assert result.code == 0 and "note: --guidance-scale has no effect on this model; use --true-cfg-scale" in result.err


def test_latents_of_several_videos_are_one_file(sample, command, work):
    result = sample(PROMPT, "--seed", 3, "--num-videos-per-prompt", 2, "-o", "a.safetensors", "-o", "a.webp")
    assert (result.code, result.out) == (0, "a-001.safetensors\na-001.webp\na-002.webp\n")
    assert command("decode", "a-001.safetensors", "-o", "late.webp").out == "late-001.webp\nlate-002.webp\n"
    assert all(map(np.array_equal, webp_frames("late-002.webp"), webp_frames("a-002.webp")))


def test_latents_apart_from_decoding(sample, command, work, checkpoint):
    assert sample(PROMPT, "--seed", 3, "-o", "a.safetensors").code == 0
    assert names(work) == ["a.safetensors"]
    assert command("decode", "a.safetensors", "-o", "late.mp4").out == "late.mp4\n"  # the model is the run's own
    assert sample(PROMPT, "--seed", 3, "-o", "direct.mp4").code == 0
    assert np.array_equal(frames("late.mp4"), frames("direct.mp4"))
    assert command("show", "a.safetensors").out == "hunyuan-video decode a.safetensors -o out.mp4\n"


KILL_AT = """
import os, signal, sys
from hunyuan_video.cli import main
from hunyuan_video.sampling.run import SampleStream
event = SampleStream._event
def killed(self, done):
    if self.state.step == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return event(self, done)
SampleStream._event = killed
main(sys.argv[1:])
"""
RESUME = "hunyuan-video sample --resume a.state.safetensors"


def check_resumes(sample, command, work) -> None:
    """In `work` a job of two prompts stopped at step 2 of its first: continue it, compare with unbroken runs."""
    assert names(work) == ["a.state.safetensors", "prompts.txt"]
    assert SamplingState.load("a.state.safetensors").step == 2
    assert command("show", "a.state.safetensors").out == f"{RESUME}\n"
    (work / "prompts.txt").unlink()  # all that is needed is in the state
    result = command(*shlex.split(RESUME)[1:])
    assert (result.code, result.out) == (0, "a-001.mp4\na-002.mp4\n")
    assert names(work) == ["a-001.mp4", "a-002.mp4"]
    for number, prompt in ((1, PROMPT), (2, "a green circle")):
        assert sample(prompt, "--seed", 3, "-o", "whole.mp4").code == 0
        assert np.array_equal(frames(f"a-{number:03d}.mp4"), frames("whole.mp4"))


@pytest.fixture
def two_prompts(work, checkpoint) -> list[str]:
    (work / "prompts.txt").write_text(f"{PROMPT}\na green circle\n")
    options = ["--prompt-file", "prompts.txt", "--device", "cpu", "--seed", "3", "-o", "a.mp4"]
    return ["sample", "--model", str(checkpoint), *options]


def test_a_run_ended_by_sigkill_resumes_to_the_same_frames(sample, command, work, two_prompts):
    words = [sys.executable, "-c", KILL_AT, *two_prompts]
    assert subprocess.run(words, env={**os.environ, "OMP_NUM_THREADS": "1"}).returncode == -signal.SIGKILL
    check_resumes(sample, command, work)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_how_to_resume(sample, command, work, two_prompts, monkeypatch, number):
    if number == signal.SIGINT:  # a test run in the background of a shell inherits "ignore"
        signal.signal(number, signal.default_int_handler)
    event, handlers = SampleStream._event, [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]

    def interrupted(self, done):
        if self.state.step == 2:
            os.kill(os.getpid(), number)
        return event(self, done)

    with monkeypatch.context() as patch:
        patch.setattr(SampleStream, "_event", interrupted)
        result = command(*two_prompts)
    last = result.err.splitlines()[-1]
    assert result.code == 130
    assert last == f"hunyuan-video sample: interrupted at step 2 of 4; continue with: {RESUME}"
    assert handlers == [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    check_resumes(sample, command, work)


def stopped_state(checkpoint, path, steps=2):
    pipe = HunyuanVideoPipeline.from_pretrained(checkpoint, device="cpu")
    stream = pipe.stream(PROMPT, seed=3, checkpoint_to=path)
    for event in stream:
        if event.step == steps:
            stream.close()


def test_a_state_saved_by_python_resumes_on_the_command_line(sample, command, work, checkpoint):
    stopped_state(checkpoint, "run.safetensors")
    result = sample("--resume", "run.safetensors", "-o", "a.mp4")
    assert (result.code, result.out) == (0, "a.mp4\n")
    assert sample(PROMPT, "--seed", 3, "-o", "whole.mp4").code == 0
    assert np.array_equal(frames("a.mp4"), frames("whole.mp4"))
    assert SamplingState.load("run.safetensors").complete  # it was named by the user, so it stays


def test_a_state_of_several_prompts_resumes_to_numbered_files(sample, work, checkpoint):
    pipe = HunyuanVideoPipeline.from_pretrained(checkpoint, device="cpu")
    next(pipe.stream([PROMPT, "a green circle"], seed=3, checkpoint_to="run.safetensors"))
    result = sample("--resume", "run.safetensors", "-o", "a.webp")
    assert (result.code, result.out) == (0, "a-001.webp\na-002.webp\n")
    assert [read_metadata(name)["prompt"] for name in ("a-001.webp", "a-002.webp")] == [PROMPT, "a green circle"]


def test_an_unfinished_state_decodes_with_a_note(command, work, checkpoint):
    stopped_state(checkpoint, "run.safetensors")
    result = command("decode", "run.safetensors", "-o", "a.png", "--contact-sheet", "--model", checkpoint)
    assert result.code == 0 and "from step 2 of 4" in result.err and "--resume run.safetensors" in result.err


def test_a_new_run_never_overwrites_an_unfinished_one(sample, work, checkpoint):
    stopped_state(checkpoint, "a.state.safetensors")
    kept = (work / "a.state.safetensors").read_bytes()
    assert sample(PROMPT, "-o", "a.mp4").code == 0
    assert names(work) == ["a.mp4", "a.state.safetensors"]
    assert (work / "a.state.safetensors").read_bytes() == kept


def test_a_failed_decode_keeps_the_latents(sample, work, monkeypatch):
    from hunyuan_video.models import CausalVAE

    def fail(*_, **__):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 TB")

    monkeypatch.setattr(CausalVAE, "decode", fail)
    result = sample(PROMPT, "--seed", 3, "-o", "a.mp4")
    last = result.err.splitlines()[-1]
    assert result.code == 1 and "not enough memory for decoding" in last
    assert last.endswith("the latents are safe, when that is done: hunyuan-video decode a.state.safetensors -o a.mp4")


@pytest.mark.parametrize("stopped", [KeyboardInterrupt(), UserError("the decoder is lost")])
def test_what_is_said_where_no_state_could_be_written(sample, work, monkeypatch, stopped):
    def fail(*_, **__):
        raise UserError("cannot write the sampling state: No space left on device")

    def stop(*_, **__):
        raise stopped

    monkeypatch.setattr(SamplingState, "save", fail)
    monkeypatch.setattr(SampleStream, "_output", stop)
    result = sample(PROMPT, "--seed", 3, "-o", "a.mp4")
    assert result.code in (1, 130) and names(work) == []
    assert result.err.splitlines()[-1].endswith(("at step 4 of 4; nothing was saved", "the decoder is lost"))


def test_float16_on_a_cpu_is_told_in_one_line(sample, work):
    result = sample(PROMPT, "--seed", 3, "--dtype", "float16", "--device", "cpu", "-o", "a.mp4")
    assert result.code == 0 and names(work) == ["a.mp4"]
    notes = [line for line in result.err.splitlines() if "float16" in line]
    assert len(notes) == 1 and notes[0].startswith("note: float16 is not usable on a CPU; the models run in ")
