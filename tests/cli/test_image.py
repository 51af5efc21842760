"""`hunyuan-video sample --image`: a video from an image, and one line for what cannot work."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def image_checkpoint(checkpoint, tmp_path_factory):
    """The random checkpoint as an image-to-video one: the same weights."""
    folder = shutil.copytree(checkpoint, tmp_path_factory.mktemp("image") / "checkpoint")
    path = folder / "transformer/config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "image_condition_type": "token_replace"}))
    return folder


@pytest.fixture
def image(work):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(work / "start.png")
    return work / "start.png"


def test_a_video_from_an_image(command, image_checkpoint, image, work):
    words = ("sample", "a red star", "--model", image_checkpoint, "--seed", 3, "--num-inference-steps", 2)
    result = command(*words, "--image", image, "-o", "out.webp", "-o", "out.safetensors")
    assert result.code == 0, result.err
    assert (work / "out.webp").exists()
    shown = command("show", "out.webp")
    assert "--image start.png" in shown.out
    assert command("decode", "out.safetensors", "--model", image_checkpoint, "-o", "again.webp").code == 0
    latents = command(*words, "--image", image, "-o", "only.safetensors")  # the vae is loaded for the image alone
    assert latents.code == 0, latents.err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--image", "missing.png"), 1, "cannot read the image missing.png: No such file or directory"),
        (("--image", "text.png"), 1, "cannot read the image text.png: no image format"),
        ((), 2, "this model continues an image and none was given"),
    ],
)
def test_what_cannot_work_is_one_line(command, image_checkpoint, work, words, code, message):
    (work / "text.png").write_text("no image")
    result = command("sample", "a red star", "--model", image_checkpoint, "--seed", 3, *words, "-o", "out.webp")
    assert result.code == code
    line = result.err.strip().splitlines()[-1]
    assert message in line
    assert "Traceback" not in result.err
    assert not (work / "out.webp").exists()


def test_a_text_model_refuses_an_image(sample, image):
    result = sample("a red star", "--seed", 3, "--image", image, "-o", "out.webp")
    assert result.code == 2
    assert "makes videos from text only" in result.err


def test_a_picture_whose_decoder_logs_is_still_one_line(image_checkpoint, tmp_path):
    """Pillow logs that a TIFF has more samples per pixel than it decodes, and Python prints what nobody handles."""
    path = tmp_path / "many.tiff"
    Image.new("RGB", (64, 64)).save(path)
    data = bytearray(path.read_bytes())
    at = data.find(b"\x15\x01\x03\x00")  # samples per pixel
    data[at + 8 : at + 10] = b"\x00\x08"
    path.write_bytes(data)
    words = [
        "sample",
        "a red star",
        "--model",
        image_checkpoint,
        "--seed",
        "3",
        "--image",
        path,
        "-o",
        tmp_path / "o.gif",
    ]
    done = subprocess.run([sys.executable, "-m", "hunyuan_video", *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and f"cannot read the image {path}" in done.stderr
