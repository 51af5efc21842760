"""Frames of a decoder as 8-bit RGB: which matrix and range their numbers have, transparency, tone mapping of HDR."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hunyuan_video.media.hdr import TRANSFERS, side_data, tone_mapped
from hunyuan_video.media.pixels import GROUND

if TYPE_CHECKING:
    from av import VideoFrame

LIMITED, FULL = 1, 2  # FFmpeg's numbers for color ranges
BT709, FCC, BT601, SMPTE240M, BT2020 = 1, 4, 5, 7, 9  # swscale's for matrices
SCALING = 2 | 0x2000 | 0x40000  # swscale's bilinear, with chroma at full width and exact rounding
MATRICES = {1: BT709, 4: FCC, 5: BT601, 6: BT601, 7: SMPTE240M, 9: BT2020}  # from H.273's numbers, which frames have
OF_PRIMARIES = {1: BT709, 5: BT601, 6: BT601, 7: SMPTE240M, 9: BT2020}
UNTAGGED = {2, 3}  # unspecified, reserved
REFUSED = {8: "YCgCo", 10: "BT.2020 with constant luminance", 11: "SMPTE 2085", 12: "derived from its primaries",
           13: "derived from its primaries", 14: "ICtCp", 15: "IPT-C2", 16: "YCgCo-R", 17: "YCgCo-R"}  # fmt: skip
FULL_RANGE_GRAY = {"ffv1", "rawvideo", "png", "apng", "mjpeg", "huffyuv", "ffvhuff", "jpeg2000", "targa", "qtrle"}


def to_rgb(frame: VideoFrame, codec: str, size: tuple[int, int] | None = None) -> np.ndarray:  # uint8 [H, W, 3]
    """A frame as it is stored, neither turned nor stretched. `codec`: the decoder's name.

    size: (height, width) to scale to while the colors are converted, which costs a fraction of the full size; frames
    that are not 8-bit YUV or RGB keep their own. ValueError for colors that cannot be shown as they were meant.
    """
    if frame.format.name.startswith("gray"):
        return _gray(frame, codec)
    if frame.color_trc in TRANSFERS:
        planes = _planes(frame, "gbrp16le")
        return tone_mapped(planes.astype(np.float32) / 65535, frame)
    if frame.colorspace in UNTAGGED and any(name.startswith("DOVI") for name in side_data(frame)):
        raise ValueError("it is Dolby Vision without a layer that others can show; convert it to SDR first")
    if any(component.is_alpha for component in frame.format.components) or frame.format.has_palette:
        planes = _planes(frame, "gbrap")
        return over_ground(planes[..., :3], planes[..., 3:])
    return _planes(frame, "gbrp", size)


def over_ground(picture: np.ndarray, alpha: np.ndarray) -> np.ndarray:  # uint8 [H, W, C], uint8 [H, W, 1]
    """A transparent picture laid on a white ground."""
    alpha = alpha.astype(np.uint16)
    return ((picture * alpha + GROUND * (255 - alpha) + 127) // 255).astype(np.uint8)


def matrix(frame: VideoFrame) -> int:
    """The matrix that a frame's YUV was made with: its tag, else what its primaries go with, else by its size."""
    if frame.colorspace in REFUSED:
        raise ValueError(f"its colors are {REFUSED[frame.colorspace]}, which is not supported; convert it to BT.709")
    if frame.colorspace not in UNTAGGED:
        return MATRICES.get(frame.colorspace, BT709)  # 0: RGB, where there is none
    if frame.color_primaries in OF_PRIMARIES:
        return OF_PRIMARIES[frame.color_primaries]
    return BT709 if frame.width >= 1280 or frame.height > 576 else BT601  # as players guess


def _is_full(frame: VideoFrame) -> bool:
    return frame.color_range == FULL or frame.format.name.startswith("yuvj")


def _planes(  # [H, W, 3 or 4]: R, G, B and alpha
    frame: VideoFrame, name: str, size: tuple[int, int] | None = None
) -> np.ndarray:
    """A frame in one of the planar RGB formats, with chroma interpolated and products rounded."""
    height, width = size or (frame.height, frame.width)
    converted = frame.reformat(
        width=width, height=height,
        format=name, src_colorspace=matrix(frame), src_color_range=FULL if _is_full(frame) else LIMITED,
        dst_color_range=FULL, interpolation=SCALING,
    )  # fmt: skip
    green, blue, red, *alpha = (_plane(converted, number) for number in range(len(converted.planes)))
    return np.stack((red, green, blue, *alpha), axis=-1)


def _plane(frame: VideoFrame, number: int) -> np.ndarray:  # [H, W]
    plane: Any = frame.planes[number]
    deep = "16" in frame.format.name
    rows = np.frombuffer(plane, "<u2" if deep else np.uint8).reshape(-1, plane.line_size // (1 + deep))
    return rows[: plane.height, : plane.width]


def _gray(frame: VideoFrame, codec: str) -> np.ndarray:  # uint8 [H, W, 3]
    """Swscale takes every gray format for full range, so limited range is stretched here."""
    values = _plane(frame.reformat(format="gray16le"), 0).astype(np.float32) / 65535
    if frame.color_range != FULL and (frame.color_range == LIMITED or codec not in FULL_RANGE_GRAY):
        unit = 2 ** (frame.format.components[0].bits - 8)
        values = (values * (256 * unit - 1) - 16 * unit) / (219 * unit)
    gray = (values * 255).round().clip(0, 255).astype(np.uint8)
    return np.repeat(gray[..., None], 3, axis=-1)
