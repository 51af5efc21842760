"""`hunyuan-video inspect`: every kind of file and folder by its own reader, whole or not, one line for all else."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

import hunyuan_video
from hunyuan_video.cli import main

TINY = Path(hunyuan_video.__file__).parent / "assets/tiny"
pytestmark = pytest.mark.skipif(not TINY.exists(), reason="the bundled checkpoint is not in this tree")


def answer(capsys, path, code=0):
    """The lines of the answer, or of the refusal."""
    capsys.readouterr()
    assert main(["inspect", str(path)]) == code
    output = capsys.readouterr()
    assert not (output.out and output.err)
    return (output.out or output.err).splitlines()


@pytest.mark.parametrize(
    ("place", "kind", "detail", "command"),
    [
        ("", "a whole checkpoint in diffusers layout", "  adapter: few_step", "sample PROMPT --model"),
        ("transformer", "weights of transformer, one file", "double_blocks 2, single_blocks 4", "convert"),
        ("vae/diffusion_pytorch_model.safetensors", "weights of vae, one file", "latent_channels 16", "convert"),
        ("adapters", "an adapter of the transformer", "few_step.safetensors: ", "sample PROMPT --adapter"),
        ("adapters/few_step.safetensors", "an adapter of the transformer", "layers; rank ", "sample PROMPT --adapter"),
        ("text_encoder", "a text encoder", "model_type llama", ""),
    ],
)
def test_parts_of_a_checkpoint(capsys, place, kind, detail, command):
    lines = answer(capsys, TINY / place)
    assert lines[0] == f"{TINY / place}: {kind}" and any(detail in line for line in lines[1:])
    assert command in lines[-1]


def test_the_name_of_a_bundled_checkpoint(capsys):
    lines = answer(capsys, "tiny")
    assert lines[0].startswith("tiny: a whole") and lines[-1] == "  hunyuan-video sample PROMPT --model tiny"


def test_what_is_missing_is_said_and_the_exit_code_is_1(capsys, tmp_path):
    copy = tmp_path / "tiny"
    shutil.copytree(TINY, copy)
    shutil.rmtree(copy / "text_encoder_2")
    weights = copy / "vae/diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    lines = answer(capsys, copy, code=1)
    assert [line for line in lines if line.startswith("  not whole: ")][1].endswith("text_encoder_2 is missing")
    assert any("vae" in line for line in lines if line.startswith("  not whole: "))
    assert main(["inspect", str(copy), "--json"]) == 1
    assert len(json.loads(capsys.readouterr().out)["problems"]) == 2


def test_data_of_training(capsys, tmp_path):
    source, out = tmp_path / "clips", tmp_path / "out"
    source.mkdir()
    for number in range(3):
        Image.new("RGB", (20, 20), (90 * number, 0, 0)).save(source / f"{number}.png")
        (source / f"{number}.txt").write_text(f"number {number}")
    (source / "alone.txt").write_text("no picture")
    lines = answer(capsys, source)
    assert lines[0].endswith("a source of clips") and lines[1:3] == [
        "  3 captioned videos and pictures", "  left out: 1 caption without a video"]  # fmt: skip
    assert main(["encode", str(source), "-o", str(out), "--bucket", "1x16x16", "--shard", "2"]) == 0
    lines = answer(capsys, out)
    assert lines[0].endswith("a data set of encode") and lines[1] == "  3 clips of 1x16x16"
    lines = answer(capsys, out / "1x16x16/00001.tar")
    assert lines[1:] == ["  1 clips, latents [16, 1, 2, 2]", "  first: 2: 'number 2'"]
    (source / "1.txt").write_text("corrected")
    assert "1 edited (1)" in answer(capsys, out, code=1)[-2]
    (out / "1x16x16/00001.json").unlink()
    (out / "1x16x16/00001.tar").unlink()
    assert "1 of 2 shards are missing" in answer(capsys, out, code=1)[-2]


def test_outputs_and_states(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["sample", "a red circle", "--num-frames", "1", "--num-inference-steps", "1", "--seed", "1", "-o"]
    assert main([*words, "a.png"]) == 0 and main([*words, "a b.safetensors"]) == 0
    lines = answer(capsys, "a.png")
    assert lines[0] == "a.png: an image" and lines[-1] == "  hunyuan-video show a.png"
    lines = answer(capsys, "a b.safetensors")
    assert lines[0].endswith("latents of a sampling") and lines[1].startswith("  step 1 of 1")
    assert lines[-1] == "  hunyuan-video decode 'a b.safetensors' -o out.mp4"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.safetensors", b"nothing", "a.safetensors"),
        ("a.mp4", b"nothing", "not a readable video"),
        ("a.tar", b"nothing", "not a whole tar file"),
        ("a.jsonl", b"{}", "a.jsonl:1: needs"),
        ("a.yaml", b"a: [", "not valid YAML"),
        ("a.pt", b"nothing", "a.pt"),
    ],
)
def test_what_no_reader_understands_is_one_line(capsys, tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    lines = answer(capsys, tmp_path / name, code=1)
    assert len(lines) == 1 and words in lines[0]


def test_nothing_is_one_line(capsys, tmp_path):
    assert "no such file" in answer(capsys, tmp_path / "nowhere", code=1)[0]
    assert "neither a checkpoint" in answer(capsys, tmp_path, code=1)[0]
