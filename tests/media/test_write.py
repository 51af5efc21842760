"""Files by ending: pictures and facts come back, equal input gives equal bytes, failures leave nothing behind."""

from __future__ import annotations

import io
import types

import numpy as np
import pytest
from PIL import Image

from hunyuan_video import UserError
from hunyuan_video.data.sources import Bucket
from hunyuan_video.media.animations import frame_grid
from hunyuan_video.media.metadata import read_metadata
from hunyuan_video.media.read import probe, read_clip, video_size
from hunyuan_video.media.timeline import rate
from hunyuan_video.media.write import check_output, save_video

FACTS = {"prompt": 'a star, "é" 星', "seed": 3, "settings": {"height": 48}}


def moving_square(frames: int = 9, height: int = 48, width: int = 64) -> np.ndarray:
    video = np.zeros((frames, height, width, 3), np.uint8)
    video[...] = (200, 30, 60)
    for i in range(frames):
        video[i, 10:30, 4 + 3 * i : 24 + 3 * i] = (10, 220, 90)
    return video


def read_video(path) -> np.ndarray:
    import av

    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_mp4_round_trip(tmp_path):
    import av

    path, video = tmp_path / "a.mp4", moving_square()
    save_video(path, video, fps=7.5, metadata=FACTS)
    assert read_metadata(path) == FACTS
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt, float(stream.average_rate)) == ("h264", "yuv420p", 7.5)
        assert container.metadata["title"] == FACTS["prompt"]
    back = read_video(path)
    assert back.shape == video.shape
    error = np.abs(back.astype(int) - video)
    assert error.mean() < 4 and error[:, 35:].max() <= 4  # chroma is halved at edges, flat areas keep their color


def test_mp4_of_odd_size_grows_to_even_and_says_so(tmp_path):
    with pytest.warns(UserWarning, match="H.264 has even sizes: the video of 63x47 is written as 64x48"):
        save_video(tmp_path / "odd.mp4", moving_square(height=47, width=63), fps=8)
    assert read_video(tmp_path / "odd.mp4").shape == (9, 48, 64, 3)


def test_one_frame_makes_an_mp4_too(tmp_path):
    save_video(tmp_path / "one.mp4", moving_square(1), fps=24)
    assert len(read_video(tmp_path / "one.mp4")) == 1


@pytest.mark.parametrize("fps, ticks", [(8, {120, 130}), (24, {40, 50}), (10, {100})])
def test_gif_keeps_frames_rate_and_facts(tmp_path, fps, ticks):
    path, video = tmp_path / "a.gif", moving_square()
    save_video(path, video, fps=fps, metadata=FACTS)
    assert read_metadata(path) == FACTS
    with Image.open(path) as image:
        assert image.n_frames == len(video) and image.info["loop"] == 0
        durations, errors = [], []
        for i in range(image.n_frames):
            image.seek(i)
            durations.append(image.info["duration"])
            errors.append(np.abs(np.asarray(image.convert("RGB")).astype(int) - video[i]).max())
    assert set(durations) <= ticks and abs(sum(durations) - 1000 * len(video) / fps) <= 10
    assert max(errors) <= 8


def test_webp_is_lossless_and_keeps_facts(tmp_path):
    path, video = tmp_path / "a.webp", moving_square()
    save_video(path, video, fps=8, metadata=FACTS)
    assert read_metadata(path) == FACTS
    with Image.open(path) as image:
        assert image.n_frames == len(video)
        for i in range(image.n_frames):
            image.seek(i)
            assert np.array_equal(np.asarray(image.convert("RGB")), video[i])


def test_png_holds_an_image_exactly(tmp_path):
    video = moving_square(1)
    save_video(tmp_path / "a.png", video, metadata=FACTS)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), video[0])
    assert read_metadata(tmp_path / "a.png") == FACTS


def test_png_of_a_video_needs_an_explicit_choice(tmp_path):
    with pytest.raises(UserError, match="9 frames.*--contact-sheet.*folder name ending in /"):
        save_video(tmp_path / "a.png", moving_square())
    save_video(tmp_path / "a.png", moving_square(), contact_sheet=True)
    sheet = np.asarray(Image.open(tmp_path / "a.png"))
    assert np.array_equal(sheet, frame_grid(moving_square()))


def test_folder_of_frames(tmp_path):
    video = moving_square()
    save_video(f"{tmp_path}/frames/", video, metadata=FACTS)
    files = sorted((tmp_path / "frames").iterdir())
    assert [file.name for file in files] == [f"frame-{i:04d}.png" for i in range(1, 10)]
    assert np.array_equal(np.asarray(Image.open(files[8])), video[8])
    assert read_metadata(tmp_path / "frames") == FACTS


def test_a_folder_of_frames_replaces_an_older_one_but_nothing_else(tmp_path):
    save_video(f"{tmp_path}/frames/", moving_square(9))
    save_video(f"{tmp_path}/frames/", moving_square(3))
    assert len(list((tmp_path / "frames").iterdir())) == 3
    (tmp_path / "frames" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds other files \(notes.txt\); give a new folder name"):
        save_video(f"{tmp_path}/frames/", moving_square(3))
    assert len(list((tmp_path / "frames").iterdir())) == 4 and len(list(tmp_path.iterdir())) == 1


def test_a_folder_is_not_a_file_name(tmp_path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(UserError, match="it is a folder; give a file name, or end it in /"):
        check_output(tmp_path / "a.png", 1)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="it is a file; give a new folder name"):
        check_output(f"{tmp_path}/file/", 1)


@pytest.mark.parametrize(
    "count, columns, size", [(9, None, (3, 3)), (5, None, (2, 3)), (5, 5, (1, 5)), (1, None, (1, 1))]
)
def test_contact_sheet_shows_every_frame_once(count, columns, size):
    video = moving_square(count)
    sheet = frame_grid(video, columns)
    rows, across = size
    assert sheet.shape == (rows * 50 - 2, across * 66 - 2, 3)
    for i in range(count):
        top, left = i // across * 50, i % across * 66
        assert np.array_equal(sheet[top : top + 48, left : left + 64], video[i])


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a.webp", "a.apng", "a.png"])
def test_equal_videos_are_equal_files(tmp_path, name):
    contents = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
        save_video(folder / name, moving_square(), fps=8, metadata=FACTS, contact_sheet=True)
        contents.append((folder / name).read_bytes())
        assert [file.name for file in folder.iterdir()] == [name]
    assert contents[0] == contents[1]


def test_mp4_is_made_without_what_differs_from_run_to_run(tmp_path):
    """With its macroblock tree, x264 made other bytes in about 1 of 20 runs; with the machine's threads, elsewhere."""
    save_video(tmp_path / "a.mp4", moving_square(2, 256, 64), fps=8)
    options = (tmp_path / "a.mp4").read_bytes()  # x264 notes its options in the stream
    assert b"x264" in options and b" mbtree=0" in options and b" threads=4" in options


@pytest.mark.parametrize(
    "name, message",
    [
        ("a.avi", "ends in .avi; use one of .mp4"),
        ("video", "has no ending"),
        ("absent/a.mp4", "folder .*absent does not exist; create it"),
        ("file.txt/a.mp4", "does not exist"),
    ],
)
def test_impossible_outputs_are_found_beforehand(tmp_path, name, message):
    (tmp_path / "file.txt").write_text("")
    with pytest.raises(UserError, match=message) as caught:
        check_output(tmp_path / name, 9)
    assert "\n" not in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["file.txt"]


def test_a_failed_encoder_leaves_no_file(tmp_path, monkeypatch):
    from hunyuan_video.media import mp4

    def fail(path, *_):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(mp4, "write_mp4", fail)
    with pytest.raises(UserError, match="cannot write .*No space left on device"):
        save_video(tmp_path / "a.mp4", moving_square())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.mp4", "a.png"])
def test_foreign_files_have_no_facts_and_broken_ones_are_told(tmp_path, name):
    path = tmp_path / name
    with pytest.raises(UserError, match="no such file"):
        read_metadata(path)
    path.write_bytes(b"not a video")
    with pytest.raises(UserError, match="not a video or image"):
        read_metadata(path)
    save_video(path, moving_square(1))
    assert read_metadata(path) == {}


RATES = (24, 23.976, 30, 7, 12.5, 50, 0.4)


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a.webp", "a.apng"])
def test_every_frame_comes_back_at_its_time(tmp_path, name):
    video = np.stack([np.full((32, 48, 3), (20 + 12 * i, 200 - 9 * i, 128), np.uint8) for i in range(17)])
    video[5] = video[4]  # a pause
    for fps in RATES:
        save_video(tmp_path / name, video, fps)
        info = probe(tmp_path / name)
        assert info.seconds == pytest.approx(17 / float(rate(fps)), abs=0.006 if name == "a.gif" else 6e-4)
        assert video_size(tmp_path / name, fps) == (17, 32, 48)
        back = read_clip(tmp_path / name, Bucket(17, 32, 48), fps).numpy().astype(int)
        assert np.abs(back - video).max() <= {"a.mp4": 4, "a.gif": 2}.get(name, 0)


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a.webp", "a.apng"])
def test_a_video_in_which_nothing_moves_lasts_as_long(tmp_path, name):
    video = np.full((24, 32, 32, 3), 77, np.uint8)
    save_video(tmp_path / name, video, 12, metadata=FACTS)
    assert probe(tmp_path / name).seconds == pytest.approx(2) and read_metadata(tmp_path / name) == FACTS
    assert np.abs(read_clip(tmp_path / name, Bucket(21, 32, 32), 12).numpy().astype(int) - 77).max() <= 2


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a.webp", "a.apng"])
def test_one_frame_is_one_frame(tmp_path, name):
    save_video(tmp_path / name, moving_square(1), 24)
    assert video_size(tmp_path / name, 24) == (1, 48, 64)


@pytest.mark.parametrize(
    ("name", "fps", "message"),
    [
        ("a.gif", 60, "gif: viewers show at most 50 frames per second .* got fps 60; give fps 50, or write .mp4"),
        ("a.webp", 120, "webp: viewers show at most 90 frames"),
        ("a.apng", 100, "apng: viewers show at most 90 frames"),
        ("a.gif", 0.001, "gif: a frame lasts at most 655.35 s, got fps 0.001; give fps 0.0015"),
        ("a.apng", 0.01, "apng: a frame lasts at most 65.535 s"),
        ("a.mp4", 1001, "fps must be above 0 and at most 1000"),
        ("a.mp4", float("nan"), "fps must be above 0"),
    ],
)
def test_rates_that_cannot_be_shown_are_refused_with_the_nearest(tmp_path, name, fps, message):
    for use in (
        lambda: save_video(tmp_path / name, moving_square(), fps),
        lambda: check_output(tmp_path / name, 9, fps=fps),
    ):
        with pytest.raises(UserError, match=message) as error:
            use()
        assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_the_nearest_rates_work(tmp_path):
    for name, fps in (("a.gif", 50), ("a.webp", 90), ("a.apng", 90), ("a.gif", 0.0016)):
        save_video(tmp_path / name, moving_square(3), fps)
        assert probe(tmp_path / name).seconds == pytest.approx(3 / fps, rel=0.03)


@pytest.mark.parametrize("kind", ["mp4", "gif", "webp", "apng", "png"])
def test_file_objects_take_the_same_bytes(tmp_path, kind):
    video = moving_square(1 if kind == "png" else 9)
    save_video(tmp_path / f"a.{kind}", video, 8, metadata=FACTS)
    buffer = io.BytesIO()
    save_video(buffer, video, 8, metadata=FACTS, format=kind)
    assert buffer.getvalue() == (tmp_path / f"a.{kind}").read_bytes()
    with (tmp_path / "b").open("wb") as file:
        save_video(file, video, 8, metadata=FACTS, format=f".{kind.upper()}")
    assert (tmp_path / "b").read_bytes() == buffer.getvalue()


def test_a_format_replaces_the_ending(tmp_path):
    save_video(tmp_path / "a.part", moving_square(), format="gif", metadata=FACTS)
    assert probe(tmp_path / "a.part").codec == "GIF" and read_metadata(tmp_path / "a.part") == FACTS


@pytest.mark.parametrize(
    "given, message", [(None, "has no ending; say what to write"), ("avi", "format ends in .avi; use one")]
)
def test_a_file_object_needs_a_format(given, message):
    with pytest.raises(UserError, match=message):
        save_video(io.BytesIO(), moving_square(), format=given)


def test_a_missing_encoder_and_a_full_disk_are_told_before_the_work(tmp_path, monkeypatch):
    import av

    with monkeypatch.context() as patch:
        patch.setattr(av, "codecs_available", {"gif"})
        with pytest.raises(UserError, match="has no libx264; install the wheel of av, or write .webp or .gif"):
            check_output(tmp_path / "a.mp4", 9)
        check_output(tmp_path / "a.gif", 9)
    monkeypatch.setattr("shutil.disk_usage", lambda place: types.SimpleNamespace(free=10**5))
    for name in ("a.mp4", "a.webp", "frames/"):
        with pytest.raises(UserError, match=r"it takes at least \d+.\d MB and 0.1 MB are free"):
            check_output(f"{tmp_path}/{name}", 129, height=720, width=1280)
        check_output(f"{tmp_path}/{name}", 5, height=64, width=64)


def test_a_gif_that_does_not_change_for_too_long_is_refused(tmp_path):
    still = np.full((20, 16, 16, 3), 90, np.uint8)
    with pytest.raises(UserError, match=r"gif: a picture lasts at most 655.35 s.*write .mp4"):
        save_video(tmp_path / "a.gif", still, 0.02)
    assert not list(tmp_path.iterdir())
    still[10:] = 10  # each half lasts 500 s
    save_video(tmp_path / "a.gif", still, 0.02)
    with Image.open(tmp_path / "a.gif") as image:
        lengths = []
        for number in range(image.n_frames):
            image.seek(number)
            lengths.append(image.info["duration"])
    assert sum(lengths) == 1_000_000
