"""H.264 in MP4 through PyAV: encoding frames and reading the comment back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hunyuan_video.errors import UserError, notify
from hunyuan_video.media.timeline import rate

BT709 = 1  # the code of BT.709 for color space, primaries and transfer in H.264
LIMITED_RANGE = 1
THREADS = 4  # x264's output depends on this number, not on the machine's cores: fixed, so equal frames give equal files
# x264's macroblock tree (its AVX-512 code) gave other bits in 1 to 60 % of runs on equal frames, depending on where in
# memory the frames lay; without it 300 encodes were equal, also between AVX2 and AVX-512.
X264_OPTIONS = {"crf": "16", "preset": "medium", "x264-params": "mbtree=0"}


ENCODER = "libx264"


def check_encoder() -> None:
    """UserError where this PyAV cannot encode H.264; some builds leave x264 out for its license."""
    import av

    if ENCODER not in av.codecs_available:
        raise UserError(
            f"this PyAV ({av.__version__}) has no {ENCODER}; install the wheel of av, or write .webp or .gif"
        )


def write_mp4(
    path: Path,
    frames: np.ndarray,  # uint8 [F, H, W, 3]
    fps: float,
    comment: str,
    title: str,
) -> None:
    """Visually lossless H.264 (crf 16, yuv420p, BT.709). Odd sizes grow by one repeated row or column."""
    import av
    from av.video.reformatter import ColorRange, Colorspace

    height, width = frames.shape[1:3]
    if height % 2 or width % 2:
        even = f"{width + width % 2}x{height + height % 2}"
        text = f"H.264 has even sizes: the video of {width}x{height} is written as {even}, its last row or column twice"
        notify(text)
    frames = np.pad(frames, ((0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)), mode="edge")
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        container.metadata["title"] = title
        container.metadata["comment"] = comment
        stream: Any = container.add_stream(ENCODER, rate=rate(fps), options=X264_OPTIONS)
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        context = stream.codec_context
        context.thread_count = THREADS
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = LIMITED_RANGE
        for array in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(array), "rgb24").reformat(
                format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
            )
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def read_mp4_comment(path: Path) -> str | None:
    """The container's comment, None where it has none."""
    import av

    with av.open(str(path)) as container:
        return container.metadata.get("comment")
