"""The colors of videos: numbers made here by the standards' formulas come back as the RGB they stand for."""

from __future__ import annotations

import numpy as np
import pytest

from hunyuan_video.data.buckets import Bucket
from hunyuan_video.media import hdr
from hunyuan_video.media.read import UnreadableError, read_clip

WEIGHTS = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}  # H.273
COLORS = np.array([(220, 30, 30), (30, 200, 30), (30, 30, 220), (240, 240, 240), (10, 10, 10), (200, 180, 40)], float)
TILE = 16
LIMITED, FULL = 1, 2


def chart(height=TILE) -> np.ndarray:  # float [H, W, 3]
    return np.repeat(np.repeat(COLORS[None], height, 0), TILE, 1)


def yuv(rgb, matrix, full, bits=8, half=False):
    """Y, U, V planes by BT.601, 709 and 2020's formulas; half: chroma in half the size."""
    red, blue = WEIGHTS[matrix]
    r, g, b = np.moveaxis(rgb / 255, -1, 0)
    y = red * r + (1 - red - blue) * g + blue * b
    u, v = (b - y) / (2 - 2 * blue), (r - y) / (2 - 2 * red)
    unit = 2 ** (bits - 8)
    if full:
        top = 256 * unit - 1
        planes = [y * top, u * top + 128 * unit, v * top + 128 * unit]
    else:
        planes = [(16 + 219 * y) * unit, (128 + 224 * u) * unit, (128 + 224 * v) * unit]
    planes = [plane.round().clip(0, 256 * unit - 1) for plane in planes]
    return [planes[0], *(plane[::2, ::2] for plane in planes[1:])] if half else planes


def shown(path, height=TILE) -> np.ndarray:  # int [colors, 3]: the middle of each tile
    clip = read_clip(path, Bucket(1, height, TILE * len(COLORS)), 24)[0].numpy().astype(int)
    return clip[height // 2, TILE // 2 :: TILE]


def lossless(make, path, planes, name, **tags):
    return make.write(path, [make.planar(planes, name)] * 2, codec="ffv1", **tags)


@pytest.mark.parametrize("bits, half, by", [(8, True, 3), (8, False, 2), (10, True, 1)])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", list(WEIGHTS))
def test_tagged_matrix_and_range(tmp_path, make, matrix, full, bits, half, by):
    name = ("yuv420p" if half else "yuv444p") + ("10le" if bits == 10 else "")
    planes = yuv(chart(), matrix, full, bits, half)
    path = lossless(
        make, tmp_path / "x.mkv", planes, name, colorspace=matrix, color_range=FULL if full else LIMITED,
        color_primaries=matrix if matrix != 5 else 6,
    )  # fmt: skip
    assert np.abs(shown(path) - COLORS).max() <= by


@pytest.mark.parametrize("height, matrix", [(TILE, 6), (720, 1)], ids=["small", "HD"])
def test_without_tags_the_size_decides(tmp_path, make, height, matrix):
    path = lossless(make, tmp_path / "x.mkv", yuv(chart(height), matrix, False), "yuv444p")
    assert np.abs(shown(path, height) - COLORS).max() <= 2


def test_without_a_matrix_the_primaries_decide(tmp_path, make):
    path = lossless(make, tmp_path / "x.mkv", yuv(chart(), 1, False), "yuv444p", color_primaries=1)
    assert np.abs(shown(path) - COLORS).max() <= 2


def test_jpeg_in_a_video_has_full_range(tmp_path, make):
    frame = make.planar(yuv(chart(), 6, True, half=True), "yuvj420p")
    frame.color_range = FULL
    path = make.write(tmp_path / "x.avi", [frame] * 2, codec="mjpeg", options={"qmin": "2", "qmax": "2"}, color_range=2)
    assert np.abs(shown(path) - COLORS).max() <= 4


def test_a_matrix_that_cannot_be_undone_is_refused_by_name(tmp_path, make):
    path = lossless(make, tmp_path / "x.mkv", yuv(chart(), 6, False), "yuv444p", colorspace=8)
    with pytest.raises(UnreadableError, match="YCgCo, which is not supported; convert it to BT.709"):
        shown(path)


@pytest.mark.parametrize("name, bits", [("gray", 8), ("gray10le", 10), ("gray16le", 16)])
@pytest.mark.parametrize("tag", [LIMITED, FULL, 0])
def test_gray_videos(tmp_path, make, name, bits, tag):
    grays = np.array([0, 40, 128, 200, 255, 90])
    unit = 2 ** (bits - 8)
    coded = (16 + grays / 255 * 219) * unit if tag == LIMITED else grays / 255 * (256 * unit - 1)
    plane = np.repeat(np.repeat(coded.round()[None], TILE, 0), TILE, 1)
    path = lossless(make, tmp_path / "x.mkv", [plane], name, color_range=tag)
    assert np.abs(shown(path) - grays[:, None]).max() <= 1


@pytest.mark.parametrize("name", ["rgb24", "gbrp10le", "rgb48le"])
def test_rgb_videos(tmp_path, make, name):
    top = {"rgb24": 255, "gbrp10le": 1023, "rgb48le": 65535}[name]
    values = (chart() / 255 * top).round()
    planes = [values[..., i] for i in (1, 2, 0)] if name.startswith("gbr") else [values.reshape(TILE, -1)]
    if name.startswith("gbr"):
        frames = [make.planar(planes, name)] * 2
    else:
        kind = np.uint8 if top == 255 else np.uint16
        frames = [make.packed(values.astype(kind), name)] * 2
    codec, ending = ("png", "mov") if top == 255 else ("ffv1", "mkv")
    path = make.write(tmp_path / f"x.{ending}", frames, codec=codec, name=name)
    assert np.abs(shown(path) - COLORS).max() <= 1


def alpha_frame(make):
    """Red with transparency 1, 0.5 and 0 from left to right, as yuva444p."""
    red = np.repeat(np.repeat(np.array([[[220.0, 30, 30]]]), TILE, 0), 6 * TILE, 1)
    alpha = np.repeat(np.repeat(np.array([[255, 255, 128, 128, 0, 0]]), TILE, 0), TILE, 1)
    return make.planar([*yuv(red, 6, False), alpha], "yuva444p"), alpha


WHITE_BEHIND = [(220, 30, 30)] * 2 + [(237, 142, 142)] * 2 + [(255, 255, 255)] * 2


def test_transparent_videos_lie_on_white(tmp_path, make):
    frame, _ = alpha_frame(make)
    path = make.write(tmp_path / "x.mkv", [frame] * 2, codec="ffv1")
    assert np.abs(shown(path) - WHITE_BEHIND).max() <= 2


@pytest.mark.parametrize("codec, options", [("libvpx-vp9", {"lossless": "1"}), ("libvpx", {"crf": "4", "b": "4M"})])
def test_transparency_of_webm_is_read(tmp_path, make, codec, options):
    frame, _ = alpha_frame(make)
    small = frame.reformat(format="yuva420p")
    options["auto-alt-ref"] = "0"
    path = make.write(tmp_path / "x.webm", [small] * 3, codec=codec, options=options)
    assert np.abs(shown(path) - WHITE_BEHIND).max() <= 6


def test_transparent_quicktime_lies_on_white(tmp_path, make):
    _, alpha = alpha_frame(make)
    argb = np.zeros((TILE, 6 * TILE, 4), np.uint8)
    argb[..., 0], argb[..., 1:] = alpha, (220, 30, 30)
    path = make.write(tmp_path / "x.mov", [make.packed(argb, "argb")] * 2, codec="qtrle")
    assert np.abs(shown(path) - WHITE_BEHIND).max() <= 1


@pytest.mark.parametrize("signal, light", [(0.5081, 100), (0.5807, 203), (0.7518, 1000), (1.0, 10000), (0.0, 0)])
def test_pq_has_its_published_points(signal, light):
    """BT.2100 and BT.2408 name these signals."""
    assert hdr.pq_to_light(np.float32(signal)) == pytest.approx(light, rel=2e-3, abs=1e-4)
    assert hdr.light_to_pq(np.float32(light)) == pytest.approx(signal, abs=1e-4)


@pytest.mark.parametrize("signal, light", [(0.75, 203), (1.0, 1000), (0.38, 26), (0.5, 50.6), (0.0, 0)])
def test_hlg_has_its_published_points(signal, light):
    """BT.2408, table 1: 75 % is white at 203 cd/m2, 38 % an 18 % gray card at 26, on a display of 1000."""
    gray = np.full((1, 1, 3), signal, np.float32)
    assert hdr.hlg_to_light(gray).ravel() == pytest.approx([light] * 3, rel=0.02, abs=0.1)


def test_the_curve_keeps_the_dark_and_ends_at_white():
    light = np.array([0.01, 1, 10, 30, 1000], np.float32)
    kept = hdr.rolled_off(light, 1000)
    assert kept[:4] == pytest.approx(light[:4], rel=1e-3) and kept[4] == pytest.approx(hdr.WHITE, rel=1e-3)
    rising = hdr.rolled_off(np.linspace(0, 1000, 500, dtype=np.float32), 1000)
    assert (np.diff(rising[:250]) > 0).all() and (np.diff(rising[250:]) > -0.02).all()  # flat at the top
    assert hdr.rolled_off(np.array([50, 203], np.float32), 203) == pytest.approx([50, 203])


def pq_planes(light_709, make):
    """10-bit BT.2020 PQ of BT.709 light in cd/m2, for a row of tiles."""
    light = light_709 @ np.linalg.inv(hdr.TO_BT709.astype(float)).T
    signal = hdr.light_to_pq(light.clip(0).astype(np.float32))
    rows = np.repeat(np.repeat(signal[None] * 255, TILE, 0), TILE, 1)
    return make.planar(yuv(rows, 9, False, 10), "yuv444p10le")


def test_hdr_video_is_shown_as_a_standard_display_shows_it(tmp_path, make):
    light = np.array([(10, 10, 10), (30, 0, 0), (0, 30, 0), (0, 0, 30), (1000, 1000, 1000), (0.5, 0.5, 0.5)], float)
    tags = {"colorspace": 9, "color_primaries": 9, "color_trc": 16, "color_range": LIMITED}
    path = make.write(tmp_path / "x.mkv", [pq_planes(light, make)] * 2, codec="ffv1", **tags)
    expected = 255 * (light.clip(0, 203) / 203) ** (1 / 2.4)
    assert np.abs(shown(path)[:4] - expected[:4]).max() <= 16  # at 0, half a step of 10-bit PQ is that much
    assert np.abs(shown(path)[[0, 4, 5]] - expected[[0, 4, 5]]).max() <= 3


def test_hlg_video_is_mapped_too(tmp_path, make):
    rows = np.repeat(np.repeat(np.array([[[s * 255] * 3 for s in (0.38, 0.38, 0.75, 0.75, 1, 0)]]), TILE, 0), TILE, 1)
    frame = make.planar(yuv(rows, 9, False, 10), "yuv444p10le")
    tags = {"colorspace": 9, "color_primaries": 9, "color_trc": 18, "color_range": LIMITED}
    gray = shown(make.write(tmp_path / "x.mkv", [frame] * 2, codec="ffv1", **tags))
    assert np.ptp(gray, axis=1).max() <= 1  # no tint
    assert abs(gray[0, 0] - 255 * (26 / 203) ** (1 / 2.4)) <= 3 and gray[4, 0] == 255 and gray[5, 0] == 0
    assert 190 <= gray[2, 0] <= 235  # white on paper leaves room for what is brighter
