"""Videos as people have them: turned, stretched, of uneven rate, cut, damaged. Known pixels come back."""

from __future__ import annotations

import itertools
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from hunyuan_video.data.buckets import Bucket
from hunyuan_video.data.sources import open_source
from hunyuan_video.errors import Notice
from hunyuan_video.media.read import UnreadableError, probe, read_clip, video_size
from hunyuan_video.media.video import open_video


def four_colors(height=32, width=48) -> np.ndarray:  # uint8 [H, W, 3]: red, green / blue, gray
    frame = np.full((height, width, 3), 230, np.uint8)
    frame[: height // 2, : width // 2], frame[: height // 2, width // 2 :] = (220, 30, 30), (30, 200, 30)
    frame[height // 2 :, : width // 2] = (30, 30, 220)
    return frame


def moved(pixels, a, b, c, d):
    """Every pixel where the matrix puts it, one by one."""
    height, width = pixels.shape[:2]
    places = {(x, y): (a * x + c * y, b * x + d * y) for x, y in itertools.product(range(width), range(height))}
    left, top = (min(place[axis] for place in places.values()) for axis in (0, 1))
    size = (width, height) if a == 0 else (height, width)
    shown = np.zeros((*size, 3), np.uint8)
    for (x, y), (right, down) in places.items():
        shown[down - top, right - left] = pixels[y, x]
    return shown


def levels(path, frames, fps=24) -> list[int]:
    """The gray of each frame of a clip."""
    clip = read_clip(path, Bucket(frames, 32, 32), fps)
    return clip.float().mean((1, 2, 3)).round().int().tolist()


def near(result, expected, by=3) -> bool:
    return len(result) == len(expected) and all(abs(a - b) <= by for a, b in zip(result, expected, strict=True))


MATRICES = [
    matrix
    for matrix in itertools.product((-1, 0, 1), repeat=4)
    if abs(matrix[0] * matrix[3] - matrix[1] * matrix[2]) == 1 and matrix.count(0) == 2
]


@pytest.mark.parametrize("matrix", MATRICES, ids=str)
def test_every_display_matrix_is_applied(tmp_path, make, matrix):
    path = make.write(tmp_path / "x.mp4", [make.picture(four_colors())] * 2)
    make.set_matrix(path, *matrix)
    expected = moved(four_colors(), *matrix)
    assert video_size(path, 24) == (2, *expected.shape[:2])
    clip = read_clip(path, Bucket(1, *expected.shape[:2]), 24)
    assert np.abs(clip[0].numpy().astype(int) - expected).max() <= 3


def test_eight_matrices_are_tried():
    assert len(MATRICES) == 8


def test_a_tilted_video_is_refused_and_an_empty_matrix_means_nothing(tmp_path, make):
    path = make.write(tmp_path / "x.mp4", [make.picture(four_colors())] * 2)
    make.set_matrix(path, 0.7, 0.7, -0.7, 0.7)
    with pytest.raises(UnreadableError, match="no multiple of 90 degrees"):
        read_clip(path, Bucket(1, 32, 48), 24)
    make.set_matrix(path, 0, 0, 0, 0)
    assert video_size(path, 24) == (2, 32, 48)


@pytest.mark.parametrize("ratio, turned", [("2", False), ("1/2", False), ("3/2", True)])
def test_pixels_that_are_not_square_are_stretched(tmp_path, make, ratio, turned):
    stored = np.zeros((64, 64, 3), np.uint8)
    stored[16:48, 16:48] = 220  # a square of pixels in the middle
    path = make.write(tmp_path / "x.mp4", [make.picture(stored)] * 2, ratio=ratio)
    height, width = 64, round(64 * Fraction(ratio))
    if turned:
        make.set_matrix(path, 0, 1, -1, 0)
        height, width = width, height
    assert video_size(path, 24) == (2, height, width)
    shown = read_clip(path, Bucket(1, height, width), 24)[0, :, :, 0].numpy() > 110
    assert abs(shown.any(1).sum() - height / 2) <= 2 and abs(shown.any(0).sum() - width / 2) <= 2


def test_a_video_of_odd_pixels_goes_to_the_bucket_of_its_shape_on_screen(tmp_path, make):
    make.write(tmp_path / "x.mp4", [make.picture(make.level(90, 64, 64))] * 5, ratio=2)
    (tmp_path / "x.txt").write_text("grey")
    buckets = [Bucket(5, 64, 64), Bucket(5, 32, 64)]
    assert open_source(str(tmp_path), buckets, clips=None, captions=1, fps=24, seed=0)[0].bucket == buckets[1]


@pytest.mark.parametrize("name", ["x.mkv", "x.mp4", "x.webm"])
def test_a_screen_recording_holds_frames_until_the_next(tmp_path, make, name):
    codec = "libvpx-vp9" if name.endswith("webm") else "libx264"
    frames = [make.picture(make.level(value)) for value in (40, 120, 200)]
    path = make.write(tmp_path / name, frames, times=[0, 48, 51], base=Fraction(1, 24), codec=codec)
    assert near(levels(path, 52), [40] * 48 + [120] * 3 + [200])


@pytest.mark.parametrize("name", ["x.mkv", "x.mp4"])
def test_the_last_frame_stays_for_its_duration(tmp_path, make, name):
    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"crf": "1", "bf": "0"})
        stream.height, stream.width, stream.pix_fmt = 32, 32, "yuv444p"
        packets = [*stream.encode(make.picture(make.level(40))), *stream.encode(make.picture(make.level(200)))]
        packets += stream.encode()
        packets[-1].duration = round(Fraction(3, 2) / packets[-1].time_base)
        container.mux(packets)
    assert video_size(tmp_path / name, 24)[0] == 37
    assert near(levels(tmp_path / name, 37), [40] + [200] * 36)


def test_half_and_double_the_rate(tmp_path, make):
    values = list(range(20, 220, 20))
    path = make.write(tmp_path / "x.mp4", [make.picture(make.level(value)) for value in values], rate=12)
    assert video_size(path, 24)[0] == 20 and near(levels(path, 20), [v for v in values for _ in "ab"])
    assert video_size(path, 6)[0] == 5 and near(levels(path, 5, 6), values[::2])


@pytest.mark.parametrize("name", ["x.avi", "x.h264", "x.ts", "x.mkv"])
def test_frames_come_in_the_order_of_the_screen(tmp_path, make, name):
    """AVI and bare streams have no times of their own; x264 codes the frames in another order."""
    values = list(range(20, 220, 8))
    path = make.write(tmp_path / name, [make.picture(make.level(value)) for value in values], rate=25)
    assert video_size(path, 25)[0] == len(values) and near(levels(path, len(values), 25), values)


@pytest.mark.parametrize("first, count", [(7, 41), (3, 20), (0, 11)])
def test_frames_hidden_by_an_edit_list_are_not_counted(tmp_path, make, first, count):
    values = [20 + 4 * i for i in range(48)]
    path = make.write(tmp_path / "x.mp4", [make.picture(make.level(value)) for value in values])
    make.set_edit(path, first, count)
    assert video_size(path, 24)[0] == count
    assert near(levels(path, count), values[first : first + count])
    (tmp_path / "x.txt").write_text("a ramp")
    buckets = [Bucket(frames, 32, 32) for frames in (45, 41, 37, 17, 9, 5)]
    clip = open_source(str(tmp_path), buckets, clips=None, captions=1, fps=24, seed=0)[0]
    assert clip.bucket.frames == max(b.frames for b in buckets if b.frames <= count)
    assert len(clip.pixels()) == clip.bucket.frames


def test_a_copy_that_begins_within_an_open_group_starts_at_its_first_whole_frame(tmp_path, make):
    """Frames before the first key frame refer to pictures that the copy has not got."""
    values = [20 + 4 * i for i in range(48)]
    options = {"crf": "1", "x264-params": "open-gop=1:keyint=12:bframes=3:scenecut=0:b-adapt=0"}
    frames = [make.picture(make.level(value)) for value in values]
    make.write(tmp_path / "x.mkv", frames, options=options)
    with av.open(str(tmp_path / "x.mkv")) as whole, av.open(str(tmp_path / "cut.mkv"), "w") as cut:
        stream = whole.streams.video[0]
        copy, keys = cut.add_stream_from_template(stream), 0
        for packet in whole.demux(stream):
            keys += packet.is_keyframe
            if keys > 1 and packet.size:
                packet.stream = copy
                cut.mux(packet)
    result = probe(tmp_path / "cut.mkv")
    assert result.note == "" and result.frames in (36, 37)
    assert near(levels(tmp_path / "cut.mkv", result.frames), values[-result.frames :])


@pytest.mark.parametrize(
    ("codec", "options", "ending"),
    [("libx264", {"x264-params": "keyint=12:bframes=0:scenecut=0"}, "ts"), ("libvpx-vp9", {"g": "12"}, "webm")],
)
def test_a_recording_that_begins_between_key_frames_starts_at_the_next(tmp_path, make, codec, options, ending):
    values = [20 + 4 * i for i in range(48)]
    whole, part = tmp_path / f"x.{ending}", tmp_path / f"part.{ending}"
    make.write(whole, [make.picture(make.level(value)) for value in values], codec=codec, options=options)
    with av.open(str(whole)) as file, av.open(str(part), "w") as cut:
        stream = file.streams.video[0]
        copy = cut.add_stream_from_template(stream)
        for packet in list(file.demux(stream))[5:-1]:
            packet.stream = copy
            cut.mux(packet)
    assert near(levels(part, 36), values[12:])
    assert video_size(part, 24)[0] == 36 and probe(part).note == ""


def test_odd_sizes_keep_every_pixel(tmp_path, make):
    pixels = np.random.default_rng(0).integers(0, 256, (47, 63, 3), np.uint8)
    path = make.write(tmp_path / "x.mov", [make.picture(pixels)] * 2, codec="png", name="rgb24")
    assert video_size(path, 24) == (2, 47, 63)
    assert np.array_equal(next(open_video(path).pictures([0]))[0], pixels)


def test_interlaced_video_has_no_combs(tmp_path, make):
    """An edge that moves by 2 pixels a field: rows of the later field reach further."""
    frames = []
    for number in range(12):
        pixels = make.level(0, 64, 64)
        pixels[::2, : 4 + 4 * number], pixels[1::2, : 6 + 4 * number] = 220, 220
        frames.append(make.picture(pixels))
    path = make.write(tmp_path / "x.mp4", frames, rate=25, options={"crf": "1", "x264-params": "tff=1"}, name="yuv420p")
    make.set_matrix(path, 0, 1, -1, 0)
    assert video_size(path, 25) == (12, 64, 64)
    clip = read_clip(path, Bucket(9, 64, 64), 25)[..., 0] > 110
    lengths = clip.rot90(1, (1, 2)).sum(2)[:, 8:56]
    assert lengths.amin(1).tolist() == lengths.amax(1).tolist()
    assert near(lengths.amax(1).tolist(), [4 + 4 * number for number in range(9)], by=2)


def test_heic_is_refused_by_name(tmp_path):
    (tmp_path / "x.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    with pytest.raises(UnreadableError, match="HEIC is not read; save it as JPEG or PNG"):
        probe(tmp_path / "x.heic")


def test_a_count_stops_where_enough_is_known(tmp_path, make):
    path = make.write(tmp_path / "x.mp4", [make.picture(make.level(90))] * 100)
    assert video_size(path, 24, 30)[0] == 30 and video_size(path, 24, 200)[0] == 100


def noise(count):
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (32, 32, 3), np.uint8) for _ in range(count)]


@pytest.fixture
def whole(tmp_path, make):
    """An mp4 with its header in front, as the web serves them: 24 frames of noise, each its own picture."""
    with av.open(str(tmp_path / "x.mp4"), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=24, options={"crf": "1", "g": "1"})
        stream.height, stream.width, stream.pix_fmt = 32, 32, "yuv444p"
        for pixels in noise(24):
            container.mux(stream.encode(make.picture(pixels)))
        container.mux(stream.encode())
    return tmp_path / "x.mp4"


def test_promised_frames_that_are_not_there_are_told(whole):
    data = whole.read_bytes()
    whole.write_bytes(data[: len(data) * 6 // 10])
    with pytest.warns(Notice, match=r"header promises 1 s of video and it holds 0\.\d+ s.*; what is there is used"):
        frames = video_size(whole, 24)[0]
    assert 10 < frames < 18
    assert len(read_clip(whole, Bucket(9, 32, 32), 24)) == 9
    with pytest.raises(UnreadableError, match=rf"{frames} frames .* needs 21; its header promises 1 s") as error:
        read_clip(whole, Bucket(21, 32, 32), 24)
    assert "\n" not in str(error.value)
    assert "promises 1 s of video and it holds" in probe(whole).note


def test_a_cut_matroska_is_told_and_whole_files_are_not(tmp_path, make):
    frames = [make.picture(pixels) for pixels in noise(24)]
    for name in ("x.mkv", "x.mp4", "x.avi", "x.ts", "x.webm"):
        make.write(tmp_path / name, frames, codec="libvpx-vp9" if name.endswith("webm") else "libx264")
        assert probe(tmp_path / name).note == ""
    data = (tmp_path / "x.mkv").read_bytes()
    (tmp_path / "x.mkv").write_bytes(data[: len(data) // 2])
    assert "promises 1 s of video and it holds" in probe(tmp_path / "x.mkv").note


def test_damage_in_the_middle_is_told_and_what_comes_before_can_be_used(whole):
    data = bytearray(whole.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 1500] = bytes(1500)
    whole.write_bytes(data)
    assert len(read_clip(whole, Bucket(9, 32, 32), 24)) == 9
    with pytest.raises(UnreadableError, match="not a readable video or picture") as error:
        read_clip(whole, Bucket(21, 32, 32), 24)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"no video", b"\0" * 5000, b"\x1aE\xdf\xa3" + b"\0" * 100])
def test_what_is_no_video_is_one_line(tmp_path, content):
    (tmp_path / "x.mp4").write_bytes(content)
    for use in (lambda path: video_size(path, 24), lambda path: read_clip(path, Bucket(1, 16, 16), 24), probe):
        with pytest.raises(UnreadableError, match="not a readable video") as error:
            use(tmp_path / "x.mp4")
        assert "\n" not in str(error.value)
    with pytest.raises(UnreadableError, match="No such file"):
        probe(tmp_path / "absent.mp4")


def test_sound_alone_and_a_cover_picture_are_no_video(tmp_path):
    with av.open(str(tmp_path / "x.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(UnreadableError, match="holds no video"):
        probe(tmp_path / "x.mp4")


def test_names_that_look_like_addresses_are_files(tmp_path, make):
    path = make.write(tmp_path / "12:30 a%02d.mkv", [make.picture(make.level(90))] * 2)
    assert video_size(path, 24)[0] == 2


def test_the_name_does_not_matter(tmp_path, make):
    make.write(tmp_path / "x.mp4", [make.picture(make.level(90))] * 6).rename(tmp_path / "x.gif")
    assert probe(tmp_path / "x.gif").kind == "video"
    Image.fromarray(make.level(90)).save(tmp_path / "y.png")
    (tmp_path / "y.png").rename(tmp_path / "y.mp4")
    info = probe(tmp_path / "y.mp4")
    assert (info.kind, info.frames, info.height, info.width) == ("image", 1, 32, 32)
