"""Videos through PyAV: when their frames are on screen, and the frames themselves, upright."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hunyuan_video.media import color, orientation
from hunyuan_video.media.deinterlace import progressive
from hunyuan_video.media.hdr import side_data
from hunyuan_video.media.orientation import Orientation
from hunyuan_video.media.stream import StreamedFrame, reduced, resized
from hunyuan_video.media.timeline import Timeline

if TYPE_CHECKING:
    import av

ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # FFmpeg's own ones leave alpha out
DEFAULT_RATE = Fraction(25)  # FFmpeg's, for streams without times


@dataclass(frozen=True)
class Video:
    """A video file: what is on screen when. Nothing of it stays open."""

    path: Path
    timeline: Timeline  # its unit is the stream's
    start: int  # the first frame's time in the stream, units
    height: int  # on screen, in square pixels
    width: int
    codec: str
    missing: str  # what to say of a part that the header promises and the file has not got; "" where it has all
    ordered: bool  # whether frames are numbered instead of timed
    keyed: bool  # whether there are frames that need no other; those before the first are no part of the video

    def pictures(self, wanted: Sequence[int]) -> Iterator[tuple[np.ndarray, float]]:
        """Frames by ascending number, each uint8 [H, W, 3] with the width of its pixels as a part of their height.

        A number asked for several times gives the same array. ValueError where the stream has not got them.
        """
        times = [self.start + self.timeline.times[number] for number in wanted]
        last: Any = None
        with opened(self.path) as (container, stream):
            frames = progressive(decoded(container, stream, self.keyed), stream)
            for frame in self._on_screen(frames, times):
                if last is None or last[0] is not frame:
                    last = (frame, upright(frame, stream, self.codec))
                yield last[1]

    def stream(self) -> Iterator[StreamedFrame]:
        """Every frame that is shown, in order, one held at a time. ValueError at the first that cannot be decoded."""
        number = 0
        with opened(self.path) as (container, stream):
            for index, frame in enumerate(progressive(decoded(container, stream, self.keyed), stream)):
                time = self._time(index, frame)
                if time >= self.start and number < len(self.timeline.times):
                    seconds = float((time - self.start) * self.timeline.unit)
                    yield StreamedFrame(number, seconds, partial(_scaled, frame, stream, self.codec))
                    number += 1
        if number < len(self.timeline.times):
            raise ValueError(f"{len(self.timeline.times) - number} frames at its end cannot be decoded")

    def _on_screen(self, frames: Iterable[av.VideoFrame], times: Sequence[int]) -> Iterator[av.VideoFrame]:
        """The frame on screen at each of some ascending times of the stream."""
        current, shown, emitted = None, 0, 0
        for number, frame in enumerate(frames):
            time = self._time(number, frame)
            while emitted < len(times) and current is not None and times[emitted] < time:
                yield current
                emitted += 1
            if emitted == len(times):
                return
            current, shown = frame, time
        while emitted < len(times) and current is not None and times[emitted] <= shown:
            yield current
            emitted += 1
        if emitted < len(times):
            at = float((times[emitted] - self.start) * self.timeline.unit)
            raise ValueError(f"the frame at {at:.3f} s cannot be decoded: {self.missing or 'it is damaged'}")

    def _time(self, number: int, frame: av.VideoFrame) -> int:
        if self.ordered or frame.pts is None:
            return self.start + self.timeline.times[min(number, len(self.timeline.times) - 1)]
        if frame.time_base in (None, self.timeline.unit):
            return frame.pts
        return round(frame.pts * frame.time_base / self.timeline.unit)


def open_video(path: Path, seconds: float | None = None) -> Video:
    """Reads a video's times, up to `seconds` from its first frame where given, and its first frame for its size.

    ValueError for a file without readable video.
    """
    with opened(path) as (container, stream):
        times, frame = _PacketTimes(stream), None
        for number, packet in enumerate(container.demux(stream)):
            if packet.is_corrupt:
                break
            times.add(packet)
            if number == 0 and packet.is_keyframe and not packet.is_discard:
                frame = next(iter(packet.decode() or stream.decode(None)), None)  # without waiting for those after it
            if seconds is not None and times.beyond(seconds):
                break
        start, timeline = times.result()
        keyed = times.key is not None
        frame = frame or _first(path, keyed)
        turn, ratio = _orientation(frame), pixel_ratio(stream)
        height, width = turn.size(frame.height, max(round(frame.width * ratio), 1))
        ordered = times.untimed or container.format.name == "avi"  # PyAV hands out AVI's times in decoding order
        missing = _missing(container, stream, start, times.earliest, timeline) if times.whole else ""
        return Video(path, timeline, start, height, width, stream.codec_context.name, missing, ordered, keyed)


def _first(path: Path, keyed: bool) -> av.VideoFrame:
    with opened(path) as (container, stream):
        frame = next(decoded(container, stream, keyed), None)
    if frame is None:
        raise ValueError("no frame of it can be decoded")
    return frame


def _missing(container: Any, stream: Any, start: int, earliest: int, timeline: Timeline) -> str:
    """Compares the header's duration with the times of the packets that came, the first of them at `earliest`."""
    held = timeline.seconds
    if stream.duration:
        promised = float((stream.duration - (start - earliest)) * timeline.unit)
    elif container.duration and len(container.streams) == 1:  # Matroska has the time when the whole ends
        promised = container.duration / 1e6 - float(start * timeline.unit)
    else:
        return ""
    if promised - held < 2 * held / len(timeline.times):
        return ""
    return f"its header promises {promised:.3g} s of video and it holds {held:.3g} s: it is cut off or damaged"


class _PacketTimes:
    """Collects when frames are shown from their packets, which costs no decoding."""

    def __init__(self, stream: av.VideoStream):
        self.stream = stream
        self.tick = stream.time_base or 1 / DEFAULT_RATE
        self.shown: list[tuple[int, int]] = []  # (time, duration) in ticks
        self.key: int | None = None  # when the first frame is shown that needs no other
        self.whole = True
        self.untimed = False

    def add(self, packet: av.Packet) -> None:
        if packet.size == 0 and packet.pts is None and packet.dts is None:  # the one that ends the stream
            return
        if self.stream.codec_context.name == "vp8" and packet.size and not memoryview(packet)[0] & 0x10:
            return  # a reference that is never shown
        time = packet.pts if packet.pts is not None else packet.dts
        if packet.is_keyframe and self.key is None:
            self.key = time
        if packet.is_discard:  # hidden by an edit list
            return
        if time is None:
            self.untimed = True
            time = len(self.shown) * (packet.duration or self._usual())
        self.shown.append((time, packet.duration or 0))
        self._latest = packet.dts if packet.dts is not None else time

    def beyond(self, seconds: float) -> bool:
        """True if everything up to `seconds` is there: what follows is decoded later, so it is shown later, too."""
        if not self.shown or (self._latest - min(self.shown[0][0], self.shown[-1][0])) * self.tick <= seconds + 1:
            return False
        self.whole = False
        return True

    def result(self) -> tuple[int, Timeline]:
        """(the first frame's time, times from there), in ticks."""
        if not self.shown:
            raise ValueError("it holds no video frames")
        self.shown.sort()
        self.earliest = self.shown[0][0]
        if self.key is not None and not self.untimed:  # what a cut left without the frames that it refers to
            self.shown = [each for each in self.shown if each[0] >= self.key] or self.shown
        times, duration = [time for time, _ in self.shown], self.shown[-1][1]
        if not duration:
            duration = times[-1] - times[-2] if len(times) > 1 else self._usual()
        start = times[0]
        return start, Timeline(tuple(time - start for time in times), times[-1] + duration - start, self.tick)

    def _usual(self) -> int:
        """Ticks that a frame is shown at the stream's rate."""
        rate = self.stream.average_rate or self.stream.guessed_rate or DEFAULT_RATE
        return max(round(1 / (rate * self.tick)), 1)


@contextmanager
def opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """(container, its video stream); a cover picture is none. ValueError where there is no video."""
    import av

    with av.open(f"file:{path}") as container:  # a colon in a file's name would be a protocol
        streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
        if not streams:
            raise ValueError("it holds no video")
        if streams[0].codec_context is None:
            raise ValueError("FFmpeg knows no decoder for its video")
        yield container, streams[0]


def decoded(container: Any, stream: Any, keyed: bool) -> Iterator[av.VideoFrame]:
    """The frames that are shown, in order, until the stream ends or is cut off. ValueError at a damaged one.

    keyed: begin at the first frame that needs no other; decoders fail on those before it, or make them up.
    """
    import av

    decoder = stream.codec_context
    if stream.metadata.get("alpha_mode") == "1" and decoder.name in ALPHA_DECODERS:
        decoder = av.CodecContext.create(ALPHA_DECODERS[decoder.name], "r")
    for packet in container.demux(stream):
        if packet.is_corrupt:
            yield from decoder.decode(None)
            return
        if keyed and packet.size and not packet.is_keyframe:
            continue
        keyed = False
        for frame in decoder.decode(packet):
            if frame.is_corrupt:
                raise ValueError("a frame is damaged")
            yield frame


def upright(frame: av.VideoFrame, stream: Any, codec: str) -> tuple[np.ndarray, float]:
    """(uint8 [H, W, 3] as a player turns it, the width of a pixel as a part of its height)."""
    turn, ratio = _orientation(frame), pixel_ratio(stream)
    return turn.apply(color.to_rgb(frame, codec)), 1 / ratio if turn.transposed else ratio


def _scaled(frame: av.VideoFrame, stream: Any, codec: str, longest: int | None) -> np.ndarray:  # uint8 [H, W, 3]
    turn, ratio = _orientation(frame), pixel_ratio(stream)
    width, height = frame.width * ratio, float(frame.height)
    if longest is None or max(width, height) <= longest:
        return np.ascontiguousarray(turn.apply(color.to_rgb(frame, codec)))
    size = reduced(height, width, longest)
    picture = color.to_rgb(frame, codec, size)
    if picture.shape[:2] != size:  # of a format that keeps its size
        picture = resized(picture, size)
    return np.ascontiguousarray(turn.apply(picture))


def pixel_ratio(stream: Any) -> float:
    """The width of a stored pixel as a part of its height."""
    return float(stream.sample_aspect_ratio or 1) or 1.0


def _orientation(frame: av.VideoFrame) -> Orientation:
    matrix = side_data(frame).get("DISPLAYMATRIX")
    return Orientation() if matrix is None else orientation.of_matrix(matrix)
