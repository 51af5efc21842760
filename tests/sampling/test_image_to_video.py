"""Image-to-video sampling: the image's latent is the first frame at every step; images in every form; bad ones."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from hunyuan_video import ArgumentError, HunyuanVideoPipeline, UserError
from hunyuan_video.checkpoints.lora import save_adapter
from hunyuan_video.data.toyworld import WORLDS, render
from hunyuan_video.flow import SOLVERS
from hunyuan_video.media.images import fit_image, read_image
from hunyuan_video.models import HunyuanVideoTransformer
from hunyuan_video.models.lora import add_adapter, target_linears
from hunyuan_video.sampling.image import encode_images

PROMPT = "a red star moves left"


@pytest.fixture(scope="module")
def image():  # uint8 [32, 48, 3], the checkpoint's size
    return np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)


@pytest.fixture(scope="module")
def image_pipe(checkpoint):
    pipe = HunyuanVideoPipeline.from_pretrained(checkpoint, device="cpu")
    pipe.transformer.config = dataclasses.replace(pipe.transformer.config, image_condition="token_replace")
    return pipe


def first_latent(pipe, image):
    return encode_images(pipe.vae, [torch.from_numpy(image)])


@pytest.mark.parametrize("solver", list(SOLVERS))
def test_the_first_latent_is_the_images_at_every_step(image_pipe, image, monkeypatch, solver):
    seen, real = [], HunyuanVideoTransformer.forward

    def forward(self, latents, *args, **kwargs):
        seen.append(latents[:, :, :1].clone())
        return real(self, latents, *args, **kwargs)

    monkeypatch.setattr(HunyuanVideoTransformer, "forward", forward)
    out = image_pipe(PROMPT, image=image, seed=1, solver=solver, num_videos_per_prompt=2)
    first = first_latent(image_pipe, image)
    assert len(seen) >= 8 and all(torch.equal(x, first.expand(2, -1, -1, -1, -1)) for x in seen)  # two passes each
    assert torch.equal(out.latents[:, :, :1], first.expand(2, -1, -1, -1, -1))
    assert not torch.equal(out.latents[0, :, 1:], out.latents[1, :, 1:])
    alone = image_pipe(PROMPT, image=image, seed=2, solver=solver)
    assert torch.equal(out.latents[1:], alone.latents)


def test_the_first_frame_is_near_the_vaes_reconstruction():
    """Comparison with the bundled checkpoint's VAE; the later latents reach it through the norms' statistics only."""
    pipe = HunyuanVideoPipeline.from_pretrained("tiny", device="cpu")
    pipe.transformer.config = dataclasses.replace(pipe.transformer.config, image_condition="token_replace")
    world = WORLDS["narrow"]
    image, other = render([world.scene(i, seed=4242) for i in range(2)], num_frames=17)[:, 0]
    frame = pipe(PROMPT, image=image, seed=1).frames[0, 0].astype(float)
    decoded = [pipe.decode(encode_images(pipe.vae, [entry]))[0, 0] for entry in (image, other)]
    near, far = (10 * np.log10(255**2 / np.square(frame - entry).mean()) for entry in decoded)
    assert near > 25 > far + 5


def test_every_form_of_an_image_gives_the_same_video(image_pipe, image, tmp_path):
    Image.fromarray(image).save(tmp_path / "image.png")
    forms = (
        image,
        torch.from_numpy(image),
        Image.fromarray(image),
        tmp_path / "image.png",
        str(tmp_path / "image.png"),
    )
    videos = [image_pipe(PROMPT, image=form, seed=1, num_inference_steps=1).latents for form in forms]
    assert all(torch.equal(videos[0], video) for video in videos)
    two = image_pipe([PROMPT, PROMPT], image=[image, 255 - image], seed=1, num_inference_steps=1).latents
    assert torch.equal(two[:1], videos[0])
    assert torch.equal(two[1:, :, :1], first_latent(image_pipe, 255 - image))


def test_images_are_cut_to_the_center_and_resized():
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 200  # the center square
    assert fit_image(Image.fromarray(wide), 40, 40).float().mean() > 195
    image = np.random.default_rng(1).integers(0, 256, (16, 24, 3), np.uint8)
    assert np.array_equal(fit_image(Image.fromarray(image), 16, 24), image)


def test_gray_of_16_bits_is_scaled_not_cut_off(tmp_path):
    gray = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    expected = (gray / 257).round().astype(np.uint8)
    Image.fromarray(gray).save(tmp_path / "gray.png")
    for given in (str(tmp_path / "gray.png"), Image.fromarray(gray), Image.fromarray(gray.astype(np.int32))):
        assert np.array_equal(np.asarray(read_image(given)), np.repeat(expected[..., None], 3, axis=2))
    with pytest.raises(UserError, match="floating-point pixels"):
        read_image(Image.fromarray((gray / 65535).astype(np.float32)))


def test_orientation_of_a_file_is_applied(tmp_path):
    image = np.random.default_rng(1).integers(0, 256, (16, 24, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(image).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "turned.png"), image[::-1, ::-1])


def test_a_resumed_run_needs_no_image(image_pipe, image, tmp_path):
    stream = image_pipe.stream(PROMPT, image=image, seed=1, checkpoint_to=tmp_path / "state.safetensors")
    next(stream)
    stream.close()
    whole = image_pipe(PROMPT, image=image, seed=1)
    assert torch.equal(image_pipe(resume_from=tmp_path / "state.safetensors").latents, whole.latents)
    with pytest.raises(ArgumentError, match="resume_from already holds what image would set"):
        image_pipe(resume_from=tmp_path / "state.safetensors", image=image)


def test_previews_show_the_image(image_pipe, image):
    first = first_latent(image_pipe, image)
    stream = image_pipe.stream(PROMPT, image=image, seed=1)
    pictures = [next(stream).preview[:, :1] for _ in range(4)]
    assert all(torch.equal(picture, image_pipe.preview(first)) for picture in pictures)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({}, ArgumentError, "this model continues an image and none was given"),
        ({"image": "nowhere.png"}, UserError, "cannot read the image nowhere.png: No such file"),
        ({"image": 3}, ArgumentError, "image must be a file, a PIL image, or uint8 .* got int"),
        ({"image": np.zeros((4, 4, 3))}, ArgumentError, r"image must be uint8 \[H, W, 3\], got float64 \[4, 4, 3\]"),
        ({"image": np.zeros((4, 4), np.uint8)}, ArgumentError, r"got uint8 \[4, 4\]"),
        ({"image": [np.zeros((4, 4, 3), np.uint8)] * 2}, ArgumentError, "image has 2 entries for 1 prompts"),
        ({"image": np.zeros((4, 4, 3), np.uint8), "num_frames": 1}, ArgumentError, "num_frames must be at least 5"),
    ],
)
def test_bad_images_are_one_line(image_pipe, given, error, message):
    with pytest.raises(error, match=message) as raised:
        image_pipe(PROMPT, seed=1, **given)
    assert "\n" not in str(raised.value)


def test_a_text_model_takes_no_image(pipe, image):
    with pytest.raises(ArgumentError, match="makes videos from text only"):
        pipe(PROMPT, image=image, seed=1)


def test_a_damaged_file_is_one_line(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 20)
    (tmp_path / "text.jpg").write_text("no image")
    for name in ("broken.png", "text.jpg"):
        with pytest.raises(UserError, match="no image format that Pillow reads, or damaged"):
            read_image(tmp_path / name)


def test_an_adapter_for_image_to_video_makes_the_pipeline_so(checkpoint, image_pipe, image, tmp_path):
    transformer = HunyuanVideoTransformer.from_pretrained(checkpoint / "transformer")
    transformer.config = image_pipe.transformer.config
    add_adapter(transformer, "a", dict.fromkeys(target_linears(transformer), 2))  # neutral: B is zero
    pipe = HunyuanVideoPipeline.from_pretrained(
        checkpoint, device="cpu", adapter=str(save_adapter(transformer, "a", tmp_path / "image.safetensors"))
    )
    with pytest.raises(ArgumentError, match="none was given"):
        pipe(PROMPT, seed=1)
    settings = {"image": image, "seed": 1, "num_inference_steps": 2}
    assert torch.equal(pipe(PROMPT, **settings).latents, image_pipe(PROMPT, **settings).latents)
