"""Pictures and animations as people have them: orientation, depth, colors, transparency, timing, damage."""

from __future__ import annotations

import io
import struct
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from hunyuan_video import UserError
from hunyuan_video.data.buckets import Bucket
from hunyuan_video.media import gif
from hunyuan_video.media.images import read_image
from hunyuan_video.media.read import UnreadableError, probe, read_clip, video_size

GENERATOR = np.random.default_rng(0)
NOISE = GENERATOR.integers(0, 256, (16, 32, 3), np.uint8)
UPRIGHT = {  # what the values of EXIF's orientation mean, by the standard's words: where row 0 and column 0 are
    1: lambda a: a,  # top, left
    2: lambda a: a[:, ::-1],  # top, right
    3: lambda a: a[::-1, ::-1],  # bottom, right
    4: lambda a: a[::-1],  # bottom, left
    5: lambda a: a.transpose(1, 0, 2),  # left, top
    6: lambda a: np.rot90(a, -1),  # right, top
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),  # right, bottom
    8: lambda a: np.rot90(a, 1),  # left, bottom
}


def still(path) -> np.ndarray:  # uint8 [H, W, 3]: both ways to read it, which agree
    image = np.asarray(read_image(path))
    _, height, width = video_size(path, 24)
    assert (height, width) == image.shape[:2]
    if height % 16 == 0 and width % 16 == 0:
        assert np.array_equal(read_clip(path, Bucket(1, height, width), 24)[0], image)
    return image


@pytest.mark.parametrize("value", list(UPRIGHT))
@pytest.mark.parametrize("name", ["x.png", "x.webp", "x.tiff"])
def test_every_orientation_of_exif(tmp_path, name, value):
    exif = Image.Exif()
    exif[0x0112] = value
    options = {"lossless": True} if name.endswith("webp") else {}
    Image.fromarray(NOISE).save(tmp_path / name, exif=exif, **options)
    assert np.array_equal(still(tmp_path / name), UPRIGHT[value](NOISE))
    with Image.open(tmp_path / name) as image:
        assert np.array_equal(np.asarray(read_image(image)), UPRIGHT[value](NOISE))


@pytest.mark.parametrize("name", ["x.png", "x.tiff"])
def test_gray_of_16_bits(tmp_path, name):
    values = np.linspace(0, 65535, 16 * 16).astype(np.uint16).reshape(16, 16)
    Image.fromarray(values).save(tmp_path / name)
    assert np.array_equal(still(tmp_path / name)[..., 0], (values / 257).round().astype(np.uint8))


def png(height, width, color_type, depth, rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG with exactly these samples."""
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    stride = len(rows) // height
    filtered = b"".join(b"\0" + rows[i * stride : (i + 1) * stride] for i in range(height))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0))
    body = b"".join(chunk(*each) for each in chunks)
    return b"\x89PNG\r\n\x1a\n" + head + body + chunk(b"IDAT", zlib.compress(filtered)) + chunk(b"IEND", b"")


def test_color_of_16_bits(tmp_path):
    values = GENERATOR.integers(0, 65536, (16, 16, 3), np.uint16)
    (tmp_path / "x.png").write_bytes(png(16, 16, 2, 16, values.astype(">u2").tobytes()))
    assert np.abs(still(tmp_path / "x.png").astype(int) - values / 257).max() <= 1


def test_32_bits_and_floats_are_refused():
    with pytest.raises(UserError, match="32 bits have no known range"):
        read_image(Image.fromarray(np.full((4, 4), 70000, np.int32)))
    with pytest.raises(UserError, match="floating-point"):
        read_image(Image.fromarray(np.zeros((4, 4), np.float32)))


@pytest.mark.parametrize("mode", ["L", "1", "P"])
def test_gray_and_palettes(tmp_path, mode):
    image = Image.fromarray(NOISE).convert(mode)
    image.save(tmp_path / "x.png")
    assert np.array_equal(still(tmp_path / "x.png"), np.asarray(image.convert("RGB")))


def test_cmyk(tmp_path):
    inks = [(0, 255, 255, 0), (255, 0, 255, 0), (0, 0, 0, 255), (0, 0, 0, 0)]  # red, green, black, paper
    plane = np.repeat(np.repeat(np.array(inks, np.uint8)[None], 16, 0), 16, 1)
    for name, by in (("x.tiff", 0), ("x.jpg", 6)):
        Image.frombytes("CMYK", (64, 16), plane.tobytes()).save(tmp_path / name, **({"quality": 98} if by else {}))
        shown = still(tmp_path / name)[8, 8::16].astype(int)
        assert np.abs(shown - [(255, 0, 0), (0, 255, 0), (0, 0, 0), (255, 255, 255)]).max() <= by


def profile(red, green, blue) -> bytes:
    """An ICC profile of a display with these primaries (XYZ) and gamma 1."""

    def xyz(value):
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in value))

    curve = b"curv\0\0\0\0" + struct.pack(">I", 0)
    name = b"a display"
    text = b"desc\0\0\0\0" + struct.pack(">I", len(name) + 1) + name + bytes(79)
    tags = [(b"desc", text), (b"wtpt", xyz((0.9642, 1, 0.8249))), (b"cprt", b"text\0\0\0\0none\0")]
    tags += [(b"rXYZ", xyz(red)), (b"gXYZ", xyz(green)), (b"bXYZ", xyz(blue))]
    tags += [(kind, curve) for kind in (b"rTRC", b"gTRC", b"bTRC")]
    at, table, data = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for kind, content in tags:
        content += bytes(-len(content) % 4)
        table += kind + struct.pack(">II", at + len(data), len(content))
        data += content
    head = struct.pack(">II4s4s4s4s", at + len(data), 0, bytes([2, 0x20, 0, 0]), b"mntr", b"RGB ", b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head + bytes(128 - len(head)) + table + data


SRGB = ((0.4360, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))  # XYZ of its colors under D50


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.webp"])
def test_a_color_profile_is_applied(tmp_path, name):
    """A profile whose red is sRGB's green and the other way round, without a gamma."""
    image = Image.new("RGB", (16, 16), (128, 0, 0))
    image.save(tmp_path / name, icc_profile=profile(SRGB[1], SRGB[0], SRGB[2]))
    assert np.abs(still(tmp_path / name)[8, 8].astype(int) - (0, 188, 0)).max() <= 8  # half the light is 188 in sRGB


def test_a_damaged_profile_is_passed_over(tmp_path):
    Image.fromarray(NOISE).save(tmp_path / "x.png", icc_profile=b"no profile")
    assert np.array_equal(still(tmp_path / "x.png"), NOISE)


def transparent(mode) -> Image.Image:
    """Red, half red and nothing (with green below) from left to right."""
    pixels = np.zeros((16, 48, 4), np.uint8)
    pixels[:, :16], pixels[:, 16:32], pixels[:, 32:] = (220, 30, 30, 255), (220, 30, 30, 128), (30, 220, 30, 0)
    return Image.fromarray(pixels).convert(mode)


@pytest.mark.parametrize("name, mode", [("x.png", "RGBA"), ("x.webp", "RGBA"), ("x.tiff", "RGBA"), ("x.png", "LA")])
def test_transparent_pictures_lie_on_white(tmp_path, name, mode):
    image = transparent(mode)
    image.save(tmp_path / name, **({"lossless": True} if name.endswith("webp") else {}))
    shown = still(tmp_path / name)[8, 8::16].astype(int)
    full = np.array(image.convert("RGB").getpixel((8, 8)))
    assert np.abs(shown - [full, full * 128 / 255 + 127, (255, 255, 255)]).max() <= 1


def test_a_transparent_color_of_a_palette_and_of_rgb_lie_on_white(tmp_path):
    image = Image.new("P", (32, 16), 0)
    image.putpalette([220, 30, 30, 30, 30, 220])
    image.paste(1, (16, 0, 32, 16))
    for name in ("x.png", "x.gif"):
        image.save(tmp_path / name, transparency=1)
        assert still(tmp_path / name)[8, 8::16].tolist() == [[220, 30, 30], [255, 255, 255]]
    image.convert("RGB").save(tmp_path / "y.png", transparency=(30, 30, 220))
    assert still(tmp_path / "y.png")[8, 8::16].tolist() == [[220, 30, 30], [255, 255, 255]]


def grays(*values) -> list[Image.Image]:
    return [Image.new("RGB", (32, 32), (value,) * 3) for value in values]


def save_animation(path, images, durations, **options):
    options = {"lossless": True, **options} if path.suffix == ".webp" else options
    kind = {".png": "PNG", ".gif": "GIF", ".webp": "WEBP", ".avif": "AVIF"}[path.suffix]
    images[0].save(path, kind, save_all=True, append_images=images[1:], duration=durations, loop=0, **options)


def levels(path, frames, fps=24):
    return read_clip(path, Bucket(frames, 32, 32), fps).float().mean((1, 2, 3)).round().int().tolist()


@pytest.mark.parametrize("name", ["x.gif", "x.webp", "x.png", "x.avif"])
def test_animations_show_each_frame_for_its_time(tmp_path, name):
    save_animation(tmp_path / name, grays(40, 120, 200), [500, 250, 1000])
    assert video_size(tmp_path / name, 24)[0] == 42
    expected = [40] * 12 + [120] * 6 + [200] * 24
    assert max(abs(a - b) for a, b in zip(levels(tmp_path / name, 42), expected, strict=True)) <= 2
    info = probe(tmp_path / name)
    assert (info.kind, info.seconds) == ("animation", 1.75)


@pytest.mark.parametrize("name", ["x.gif", "x.webp", "x.png"])
def test_frames_of_at_most_10_ms_stay_100_as_in_browsers(tmp_path, name):
    save_animation(tmp_path / name, grays(40, 200), [10, 20])
    assert Fraction(probe(tmp_path / name).seconds).limit_denominator(1000) == Fraction(120, 1000)


def test_frames_of_a_gif_that_change_a_part_only(tmp_path):
    images = grays(40, 40, 40)
    for i, image in enumerate(images):
        image.paste((200, 30, 30), (8 * i, 0, 8 * i + 8, 8))
    save_animation(tmp_path / "x.gif", images, 100)
    clip = read_clip(tmp_path / "x.gif", Bucket(3, 32, 32), 10).numpy()
    assert all(
        np.abs(frame.astype(int) - np.asarray(image)).max() <= 1 for frame, image in zip(clip, images, strict=True)
    )


def test_frames_of_a_transparent_animation_lie_on_white(tmp_path):
    images = [Image.new("RGBA", (32, 32), (220, 30, 30, alpha)) for alpha in (255, 128, 0)]
    for name in ("x.webp", "x.png"):
        save_animation(tmp_path / name, images, 100)
        shown = read_clip(tmp_path / name, Bucket(3, 32, 32), 10)[:, 16, 16].tolist()
        assert shown == [[220, 30, 30], [237, 142, 142], [255, 255, 255]]


def test_the_picture_for_programs_without_motion_is_no_frame(tmp_path):
    save_animation(tmp_path / "x.png", grays(10, 120, 200), [100, 100], default_image=True)
    assert probe(tmp_path / "x.png").frames == 2
    assert levels(tmp_path / "x.png", 2, 10) == [120, 200]


def test_pages_and_depth_maps_are_no_animation(tmp_path):
    for name, kind in (("x.tiff", "TIFF"), ("x.jpg", "MPO")):
        images = grays(40, 200)
        images[0].save(tmp_path / name, kind, save_all=True, append_images=images[1:])
        assert probe(tmp_path / name).kind == "image"
        assert abs(int(still(tmp_path / name)[0, 0, 0]) - 40) <= 2


@pytest.mark.parametrize("name", ["x.gif", "x.png", "x.webp", "x.jpg", "y.png"])
def test_cut_off_pictures_are_one_line(tmp_path, name):
    if name in ("x.jpg", "y.png"):
        Image.fromarray(NOISE).save(tmp_path / name)
    else:
        save_animation(tmp_path / name, [Image.fromarray(np.roll(NOISE, i, 0)) for i in range(4)], 500)
    whole = (tmp_path / name).read_bytes()
    for part in (2, 4, 5, 6, 8):
        (tmp_path / name).write_bytes(whole[: len(whole) * part // 10])
        with pytest.raises(UnreadableError) as error:
            video_size(tmp_path / name, 2)
            read_clip(
                tmp_path / name, Bucket(4, 16, 16) if name[0] == "x" and name != "x.jpg" else Bucket(1, 16, 16), 2
            )
        assert "\n" not in str(error.value) and "not a readable video or picture" in str(error.value)


def test_a_gif_that_ends_between_two_frames_is_not_a_shorter_one():
    buffer = io.BytesIO()
    images = grays(10, 120, 200)
    images[0].save(buffer, "GIF", save_all=True, append_images=images[1:], duration=100)
    data = buffer.getvalue()
    assert gif.is_whole(data) and gif.is_whole(data + b"more")
    assert not any(gif.is_whole(data[:length]) for length in range(len(data)))
