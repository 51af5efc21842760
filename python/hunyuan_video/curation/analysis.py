"""One pass over a video: decoded once, each shot scored as soon as it has ended, nothing kept that is behind it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hunyuan_video.curation.packages import cv2
from hunyuan_video.curation.sample import Sample, Sampler
from hunyuan_video.curation.scores import Shot, score_shot
from hunyuan_video.curation.shots.content import content, hsv, thumbnail
from hunyuan_video.curation.shots.network import TransitionNetwork
from hunyuan_video.curation.shots.split import Splitter
from hunyuan_video.curation.stages.flow import LONGEST, RATE, Flow, FlowMeter
from hunyuan_video.curation.stages.sharpness import laplacian
from hunyuan_video.media.images import Animation
from hunyuan_video.media.read import explained, open_media
from hunyuan_video.media.stream import StreamedFrame

EVERY = 1.0  # seconds from sample to sample
CHANGE, SETTLED = 18.0, 3  # content score of what may be a cut; frames after it that a further sample is taken
LONGEST_SHOT = 30.0  # seconds: longer ones are cut into pieces, so that what is kept of them is bounded


@dataclass
class Models:
    """Networks that a worker loads once for all its sources."""

    shots: TransitionNetwork = field(default_factory=TransitionNetwork)
    sampler: Sampler = field(default_factory=Sampler)


@dataclass(frozen=True)
class Analysis:
    """The scored shots of one source. note: what is wrong with a part of it, in words."""

    rows: list[dict[str, Any]]
    note: str = ""


def analyze(path: Path, models: Models) -> Analysis:
    """Decodes and scores a video or picture. UnreadableError where nothing of it can be decoded."""
    with explained(path):
        media = open_media(path)
        count, seconds = len(media.timeline.times), media.timeline.seconds
        video = _Video(models, media.height, media.width, count / seconds if seconds > 0 else 0.0)
        rows: list[dict[str, Any]] = []
        note = ""
        frames = media.stream()
        while True:
            try:
                frame = next(frames, None)
            except MemoryError:
                raise
            except Exception as error:  # a decoder of a damaged file raises anything
                if not video.looks.seen:
                    raise
                note = f"damaged after {video.looks.seconds:.3g} s ({_first_line(error)}); what is before it is used"
                break
            if frame is None:
                break
            rows += video.push(frame)
        whole = seconds if not note and not media.missing else None
        rows += video.finish(whole)
    still = isinstance(media, Animation) and count == 1
    kind = "image" if still else "video"
    return Analysis([{**row, "kind": kind, "codec": media.codec} for row in rows], note or media.missing)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0]


@dataclass
class _Looks:
    """Everything known of the frames since the last shot's end: number -> value."""

    times: dict[int, float] = field(default_factory=dict)
    sharp: dict[int, float] = field(default_factory=dict)
    flows: dict[int, tuple[int, Flow]] = field(default_factory=dict)  # by the later frame, with the earlier one
    samples: dict[int, Sample] = field(default_factory=dict)
    seen: int = 0
    seconds: float = 0.0

    def part(self, start: int, end: int) -> tuple[list[float], list[float], list[Flow], list[Sample]]:
        """Times, sharpness, flows and samples of frames start..end - 1."""
        return (
            [value for number, value in self.times.items() if start <= number < end],
            [value for number, value in self.sharp.items() if start <= number < end],
            [flow for number, (began, flow) in self.flows.items() if start <= began and number < end],
            [value for number, value in self.samples.items() if start <= number < end],
        )

    def forget(self, before: int) -> None:
        tables: tuple[dict[int, Any], ...] = (self.times, self.sharp, self.flows, self.samples)
        for table in tables:
            for number in [number for number in table if number < before]:
                del table[number]


class _Video:
    """A video that streams by."""

    def __init__(self, models: Models, height: int, width: int, fps: float):
        self.models, self.height, self.width, self.fps = models, height, width, fps
        self.splitter = Splitter(models.shots)
        self.flow = FlowMeter()
        self.looks = _Looks()
        self.start = 0  # first frame of the shot that is open
        self.last: np.ndarray | None = None  # thumbnail as `hsv`
        self.last_flow: tuple[int, float] | None = None
        self.next_sample, self.extra = 0.0, -1
        models.sampler.restart()

    def push(self, frame: StreamedFrame) -> Iterator[dict[str, Any]]:
        looks, number = self.looks, frame.number
        looks.seen, looks.seconds = number + 1, frame.seconds
        picture = frame.picture(LONGEST)
        small = thumbnail(picture)
        looks.times[number] = frame.seconds
        looks.sharp[number] = laplacian(cv2().cvtColor(picture, cv2().COLOR_RGB2GRAY))
        self._flow(picture, frame)
        self._sample(small, frame)
        rows = []
        for transition in self.splitter.push(small):
            rows += self._close(transition.end, transition.start, transition.score)
        certain = self.splitter.judged - 100  # no transition is found before it any more
        began = looks.times.get(self.start)
        if began is not None and certain > self.start and looks.times.get(certain, 0.0) - began >= LONGEST_SHOT:
            end = next(n for n, time in looks.times.items() if n > self.start and time - began >= LONGEST_SHOT)
            rows += self._close(end, end, 0.0)
        yield from rows

    def finish(self, seconds: float | None) -> Iterator[dict[str, Any]]:
        """The last shots. seconds: the video's, None where it is not to be trusted."""
        for transition in self.splitter.finish():
            yield from self._close(transition.end, transition.start, transition.score)
        yield from self._close(self.looks.seen, self.looks.seen, 0.0, seconds)

    def _flow(self, picture: np.ndarray, frame: StreamedFrame) -> None:
        if self.last_flow is not None and frame.seconds - self.last_flow[1] < 1 / RATE - 1e-3:
            return
        flow = self.flow.see(picture, frame.seconds)
        if flow is not None and self.last_flow is not None:
            self.looks.flows[frame.number] = (self.last_flow[0], flow)
        self.last_flow = (frame.number, frame.seconds)

    def _sample(self, small: np.ndarray, frame: StreamedFrame) -> None:
        values = hsv(small[None])
        if self.last is not None and content(self.last, values)[0] > CHANGE:
            self.extra = frame.number + SETTLED
        self.last = values
        if frame.seconds >= self.next_sample - 1e-6 or frame.number == self.extra:
            self.looks.samples[frame.number] = self.models.sampler.see(frame)
            self.next_sample = frame.seconds + EVERY

    def _close(self, end: int, start: int, score: float, seconds: float | None = None) -> list[dict[str, Any]]:
        """The shot that ends at `end` is scored; the next one begins at `start`."""
        rows = []
        if end > self.start:
            times, sharp, flows, samples = self.looks.part(self.start, end)
            after = self.looks.times.get(end)
            if after is None:
                step = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 0.0
                after = seconds if seconds is not None else times[-1] + step
            shot = Shot(self.start, end, times[0], after, self.height, self.width, self.fps, sharp, flows, samples)
            rows.append(score_shot(shot))
            rows[-1]["transition"] = score
        self.start = max(start, self.start)
        self.looks.forget(self.start)
        return rows
