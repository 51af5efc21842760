"""Wrong input ends in one line on stderr, exit code 1 or 2, and no file."""

from __future__ import annotations

import json
import os
import shutil

import pytest
import torch

PROMPT = "a red star moves left"


def check_failure(result, code: int, *parts: str) -> None:
    lines = result.err.splitlines()
    assert result.code == code, result
    assert result.out == "" and "Traceback" not in result.err
    assert len(lines) == 1 and lines[0].startswith("hunyuan-video"), result.err
    for part in parts:
        assert part in lines[0]


@pytest.mark.parametrize(
    "words, parts",
    [
        ("--height 100", ["height must be a multiple of 16 pixels, got 100; nearest: 96 or 112"]),
        ("--width 50", ["width must be a multiple of 16 pixels, got 50; nearest: 48 or 64"]),
        ("--num-frames 16", ["num_frames must be 4k + 1, got 16; nearest: 13 or 17"]),
        ("--num-frames 0", ["num_frames must be between 1 and"]),
        ("--height -16", ["height must be between 1 and"]),
        ("--height 65536 --width 65536", ["video tokens, more than", "lower num_frames"]),
        ("--height tall", ["--height", "invalid int value: 'tall'"]),
        ("--num-inference-steps 0", ["num_inference_steps must be between 1 and 1000"]),
        ("--num-inference-steps 1e3", ["--num-inference-steps", "invalid int value"]),
        ("--flow-shift nan", ["flow_shift must be a finite number, got nan"]),
        ("--flow-shift -7", ["flow_shift must be more than 0, got -7"]),
        ("--guidance-scale inf", ["guidance_scale must be a finite number"]),
        ("--true-cfg-scale -2", ["true_cfg_scale must be at least 1, got -2"]),
        ("--guidance-rescale 2", ["guidance_rescale must be at least 0 and at most 1"]),
        ("--solver ddim", ["solver must be one of euler"]),
        ("--num-videos-per-prompt 0", ["num_videos_per_prompt must be between 1"]),
        ("--seed -1", ["seed must be between 0"]),
        ("--seed one", ["--seed", "invalid int value"]),
        ("--fps 0", ["--fps must be more than 0"]),
        ("--fps nan", ["--fps must be a finite number"]),
        ("--checkpoint-every 0", ["--checkpoint-every must be between 1"]),
        ("--threads 0", ["--threads must be at least 1"]),
        ("--device gpu9", ["--device gpu9 does not work here"]),
        ("--dtype int8", ["--dtype", "invalid choice: 'int8'"]),
        ("--vae-mode fast", ["--vae-mode", "invalid choice: 'fast'"]),
        ("--steps 3", ["unrecognized arguments: --steps 3"]),
        ("--num-inf 3", ["unrecognized arguments: --num-inf 3"]),
        ("--prompt-file p.txt", ["give a PROMPT, or --prompt-file"]),
        ("--resume s.safetensors", ["leave PROMPT and --prompt-file out"]),
    ],
)
def test_wrong_arguments(sample, work, words, parts):
    check_failure(sample(PROMPT, "-o", "a.mp4", *words.split()), 2, *parts)
    assert not list(work.iterdir())


@pytest.mark.parametrize(
    "prompt, part", [("", "the prompt is empty"), ("  ", "the prompt is empty"), ("a star " * 500, "far too long")]
)
def test_wrong_prompts(sample, work, prompt, part):
    check_failure(sample(prompt, "-o", "a.mp4", "--seed", 1), 2, part)
    assert not list(work.iterdir())


@pytest.mark.parametrize("content, code", [(None, 1), (b"\n# only a comment\n", 2), (b"\xff\xfe\x00", 1)])
def test_wrong_prompt_files(sample, work, content, code):
    path = work.parent / "prompts.txt"
    if content is not None:
        path.write_bytes(content)
    check_failure(sample("--prompt-file", path, "-o", "a.mp4"), code, str(path))
    assert not list(work.iterdir())


@pytest.mark.parametrize(
    "output, part",
    [
        ("absent/a.mp4", "folder absent does not exist; create it"),
        ("a.avi", "ends in .avi; use one of"),
        ("a", "has no ending"),
        ("a.png", "a PNG holds one image"),
        ("/dev/null/a.mp4", "does not exist"),
        ("absent/a.safetensors", "folder absent does not exist"),
    ],
)
def test_unwritable_outputs_fail_before_sampling(sample, work, output, part):
    check_failure(sample(PROMPT, "-o", output), 1, part)
    assert not list(work.iterdir())


def test_a_file_of_prompts_is_checked_before_anything_is_made(sample, work):
    (work / "p.txt").write_text(f"{PROMPT}\n# a note\n{'a star ' * 500}\n{PROMPT}\n")
    result = sample("--prompt-file", "p.txt", "-o", "a.mp4")
    check_failure(result, 2, "prompt 2 of 3 is far too long: the text encoder reads 8 tokens, under a quarter of it")
    assert [path.name for path in work.iterdir()] == ["p.txt"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder(sample, work):
    work.chmod(0o555)
    check_failure(sample(PROMPT, "-o", "a.mp4"), 1, "Permission denied")


@pytest.mark.parametrize(
    "words, code, part",
    [
        ([], 2, "the following arguments are required: COMMAND"),
        (["paint"], 2, "invalid choice: 'paint'"),
        (["sample", "--model", "tiny"], 2, "give a PROMPT"),
        (["sample", PROMPT, "--model", "no-such-folder"], 1, "no checkpoint folder 'no-such-folder'"),
        (["sample", PROMPT, "--model", "."], 1, "not a HunyuanVideo checkpoint"),
        (["sample", "--resume", "no.safetensors"], 1, "no.safetensors: no such file"),
        (["sample", "--prompt-file", "no.txt"], 1, "no.txt: no such file; give --prompt-file a file"),
        (["encode", "no.jsonl", "-o", "out", "--bucket", "1x32x32"], 1, "no.jsonl: no such file; make it"),
        (["show", "no.safetensors"], 1, "no such file: no.safetensors"),
        (["show", "."], 1, "it has no frame-0001.png; `hunyuan-video inspect .` says what it is"),
        (["decode", ".", "-o", "a.mp4"], 1, "a folder, not a sampling state; give a state file"),
        (["show", "no.mp4"], 1, "no such file: no.mp4"),
        (["show"], 2, "arguments are required: FILE"),
        (["decode", "no.safetensors", "-o", "a.mp4"], 1, "no.safetensors: no such file; give a state file"),
        (["decode", "no.safetensors"], 2, "say with -o"),
        (["convert", "absent", "out", "--layout", "diffusers"], 1, "absent"),
        (["convert", "absent", "out"], 2, "--layout"),
        (["train"], 2, "arguments are required: CONFIG"),
    ],
)
def test_wrong_commands(command, work, words, code, part):
    check_failure(command(*words), code, part)
    assert not list(work.iterdir())


def damaged(checkpoint, folder, what: str):
    """A copy of the checkpoint with one thing wrong."""
    shutil.copytree(checkpoint, folder)
    weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    if what == "truncated":
        weights.write_bytes(weights.read_bytes()[:-1000])
    elif what == "text file":
        weights.write_text("not weights")
    elif what == "missing weights":
        weights.unlink()
    elif what == "missing vae":
        shutil.rmtree(folder / "vae")
    elif what == "missing text encoder":
        shutil.rmtree(folder / "text_encoder")
    elif what == "missing tokenizer":
        (folder / "tokenizer" / "tokenizer.json").write_text("{")
    elif what == "wrong sizes":
        config = json.loads((folder / "transformer" / "config.json").read_text())
        config["num_layers"] = 2
        (folder / "transformer" / "config.json").write_text(json.dumps(config))
    elif what == "broken config":
        (folder / "transformer" / "config.json").write_text("{")
    elif what == "broken sampling.json":
        (folder / "sampling.json").write_text("[]")
    elif what == "swapped":
        shutil.rmtree(folder / "vae")
        shutil.copytree(folder / "transformer", folder / "vae")
    return folder


@pytest.mark.parametrize(
    "what, part",
    [
        ("truncated", "diffusion_pytorch_model.safetensors"),
        ("text file", "diffusion_pytorch_model.safetensors"),
        ("missing weights", "transformer"),
        ("missing vae", "has no vae folder"),
        ("missing text encoder", "has no text_encoder folder"),
        ("missing tokenizer", "tokenizer.json"),
        ("wrong sizes", "transformer"),
        ("broken config", "config.json"),
        ("broken sampling.json", "sampling.json"),
        ("swapped", "vae"),
    ],
)
def test_damaged_checkpoints(command, work, checkpoint, tmp_path, what, part):
    folder = damaged(checkpoint, tmp_path / "model", what)
    result = command("sample", PROMPT, "--model", folder, "--device", "cpu", "--seed", 1, "-o", "a.mp4")
    check_failure(result, 1, part)
    assert not list(work.iterdir())


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def test_a_pickle_with_code_is_refused_and_not_run(command, work, checkpoint, tmp_path):
    folder = damaged(checkpoint, tmp_path / "model", "missing weights")
    torch.save({"module": Bomb()}, folder / "transformer" / "pytorch_model.pt")
    check_failure(command("sample", PROMPT, "--model", folder, "--device", "cpu", "--seed", 1), 1, "pytorch_model.pt")
    assert not list(work.iterdir())


def test_a_state_of_another_model_is_refused(sample, work, checkpoint, tmp_path):
    from helpers.random_checkpoint import write_random_checkpoint

    from hunyuan_video import HunyuanVideoPipeline

    other = HunyuanVideoPipeline.from_pretrained(write_random_checkpoint(tmp_path / "other", seed=1), device="cpu")
    stream = other.stream(PROMPT, checkpoint_to=tmp_path / "run.safetensors")
    next(stream)
    check_failure(sample("--resume", tmp_path / "run.safetensors", "-o", "a.mp4"), 1, "cannot resume with another")
    assert not list(work.iterdir())


def test_debug_shows_the_traceback(sample):
    result = sample(PROMPT, "-o", "a.avi", "--debug")
    assert result.code == 1 and "Traceback" in result.err and result.err.splitlines()[-1].startswith("hunyuan-video")


def test_a_bug_is_one_line_too(sample, monkeypatch):
    from hunyuan_video.sampling import prepare

    monkeypatch.setattr(prepare, "encode_prompts", lambda *_, **__: 1 / 0)
    check_failure(sample(PROMPT, "-o", "a.mp4", "--seed", 1), 1, "ZeroDivisionError", "--debug shows where")


@pytest.mark.parametrize("words", ["inspect NAME", "convert NAME out --layout official", "show NAME",
                                   "encode NAME -o out --bucket 17x64x64"])  # fmt: skip
def test_names_that_no_file_can_have_are_refused(command, work, words):
    result = command(*words.replace("NAME", "a" * 300 + ".safetensors").split())
    check_failure(result, 1, "File name too long; give another path")
    assert list(work.iterdir()) == []


def test_a_manifest_with_such_a_name_is_read_without_it(command, work):
    (work / "clips.jsonl").write_text(json.dumps({"path": "b" * 300 + ".mp4", "caption": "a"}) + "\n")
    result = command("inspect", "clips.jsonl")
    assert "missing file" in result.out + result.err and "this is a bug" not in result.err
