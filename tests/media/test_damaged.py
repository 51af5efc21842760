"""Files with random damage: every reader gives a result or one line, whatever the decoders say."""

from __future__ import annotations

import random

import numpy as np
import pytest
from PIL import Image

from hunyuan_video import UserError, media
from hunyuan_video.data.buckets import Bucket

KINDS = ("mp4", "gif", "webp", "apng", "png", "jpg", "tiff", "bmp", "avif", "mkv", "avi", "ts")
READERS = {
    "probe": media.probe,
    "size": lambda path: media.video_size(path, 8, 9),
    "clip": lambda path: media.read_clip(path, Bucket(1, 16, 16), 8),
    "image": media.read_image,
    "facts": media.read_metadata,
}


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    """A small whole file of each kind."""
    folder = tmp_path_factory.mktemp("whole")
    tiles = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
    frames = np.stack([np.kron(np.roll(tiles, i, 0), np.ones((12, 16, 1), np.uint8)) for i in range(9)])
    result = {}
    for kind in KINDS:
        path = folder / f"x.{kind}"
        if kind in ("mp4", "gif", "webp", "apng"):
            media.save_video(path, frames, 8, metadata={"prompt": "a star"})
        elif kind in ("mkv", "avi", "ts"):
            write_frames(path, frames)
        else:
            Image.fromarray(frames[0]).save(path)
        result[kind] = path.read_bytes()
    return result


def write_frames(path, frames):
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode())


def damaged(content: bytes, choose: random.Random) -> bytes:
    data = bytearray(content)
    at = choose.randrange(len(data))
    way = choose.randrange(5)
    if way == 0:
        del data[at:]
    elif way == 1:
        for _ in range(choose.randrange(1, 20)):
            data[choose.randrange(len(data))] = choose.randrange(256)
    elif way == 2:
        data[at : at + choose.randrange(1, 64)] = choose.randbytes(choose.randrange(64))
    elif way == 3:
        data[choose.randrange(min(len(data), 400))] = choose.choice([0, 1, 127, 128, 255])
    else:
        data[at : at + 4] = choose.choice([b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff"])
    return bytes(data)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_one_line(tmp_path, contents, kind):
    path, outcomes = tmp_path / f"x.{kind}", set()
    for seed in range(30):
        path.write_bytes(damaged(contents[kind], random.Random(f"{kind} {seed}")))
        for name, read in READERS.items():
            try:
                read(path)
                outcomes.add("read")
            except UserError as error:
                assert "\n" not in str(error) and len(str(error)) < 400, (name, seed)
                outcomes.add("refused")
    assert outcomes == {"read", "refused"}
    path.write_bytes(contents[kind])
    assert media.probe(path).frames == (9 if kind in ("mp4", "gif", "webp", "apng", "mkv", "avi", "ts") else 1)
