"""Video files made for the tests of this folder."""

from __future__ import annotations

import struct
from fractions import Fraction

import av
import numpy as np
import pytest


def picture(pixels: np.ndarray) -> av.VideoFrame:  # uint8 [H, W, 3]
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgb24")


def planar(planes: list[np.ndarray], name: str) -> av.VideoFrame:  # [H, W] each, of the format's sizes
    """A frame with exactly these numbers in its planes."""
    height, width = planes[0].shape
    frame = av.VideoFrame(width, height, name)
    for plane, values in zip(frame.planes, planes, strict=True):
        kind = np.dtype("<u2" if name.endswith("le") else np.uint8)
        rows = np.zeros((values.shape[0], plane.line_size // kind.itemsize), kind)
        rows[:, : values.shape[1]] = values
        plane.update(rows)
    return frame


def packed(values: np.ndarray, name: str) -> av.VideoFrame:  # [H, W, channels]
    """A frame of one plane with these numbers."""
    frame = av.VideoFrame(values.shape[1], values.shape[0], name)
    plane = frame.planes[0]
    rows = np.zeros((values.shape[0], plane.line_size // values.itemsize), values.dtype)
    rows[:, : values.shape[1] * values.shape[2]] = values.reshape(len(values), -1)
    plane.update(rows)
    return frame


def write_frames(
    path, frames, *, rate=24, times=None, base=None, codec="libx264", options=None, ratio=None, name=None, **tags
):
    """Frames into a file, in their own pixel format; RGB as YUV, unless another is named.

    times: of each, in units of `base` seconds. tags: of the codec.
    """
    first = frames[0]
    name = name or ("yuv444p" if first.format.name == "rgb24" else first.format.name)
    options = {"crf": "1"} if options is None and codec == "libx264" else options or {}
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width, stream.pix_fmt = first.height, first.width, name
        if base is not None:
            stream.codec_context.time_base = Fraction(base)
        if ratio is not None:
            stream.codec_context.sample_aspect_ratio = Fraction(ratio)
        for tag, value in tags.items():
            setattr(stream.codec_context, tag, value)
        for number, frame in enumerate(frames):
            frame.pts = None if times is None else times[number]
            if times is not None:
                frame.time_base = Fraction(base)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def level(value: int, height: int = 32, width: int = 32) -> np.ndarray:  # uint8 [H, W, 3]
    return np.full((height, width, 3), value, np.uint8)


def set_matrix(path, a, b, c, d):
    """Puts a display matrix into the track header of an mp4: (x, y) -> (a x + c y, b x + d y)."""
    data, unit = bytearray(path.read_bytes()), 0x10000
    at = data.find(b"tkhd")
    start = at + 8 + (32 if data[at + 4] == 1 else 20) + 16
    values = [round(unit * value) for value in (a, b, 0, c, d, 0, 0, 0)]
    data[start : start + 36] = struct.pack(">9i", *values, 0x40000000)
    path.write_bytes(data)


def set_edit(path, first: int, frames: int, rate: int = 24):
    """Makes an mp4's edit list show `frames` frames from number `first` on, as a stream copy does."""
    data = bytearray(path.read_bytes())
    at = data.find(b"elst") + 12
    with av.open(str(path)) as container:
        tick = container.streams.video[0].time_base
    start = struct.unpack(">i", data[at + 4 : at + 8])[0] + round(first / rate / tick)
    data[at : at + 8] = struct.pack(">Ii", round(1000 * frames / rate), start)
    path.write_bytes(data)


@pytest.fixture
def make():
    """The makers of this file, as attributes."""
    return Makers


class Makers:
    picture = staticmethod(picture)
    planar = staticmethod(planar)
    packed = staticmethod(packed)
    write = staticmethod(write_frames)
    level = staticmethod(level)
    set_matrix = staticmethod(set_matrix)
    set_edit = staticmethod(set_edit)
