"""Transitions between shots while a video streams by: TransNet V2 where something changes, PySceneDetect's score too.

The rule, frame by frame (numbers calibrated on packages' media, docs/curation.md):
1. The network looks only at blocks of 50 frames in which the content score moves; still ones have no transition.
2. A cut: the network is sure (0.5), or the content score jumps (27, and 3 times its neighbors) and the network
   does not rule it out (0.1). It lies where the content score is highest.
3. A gradual transition: four and more frames that the network counts to one (0.5, up to 0.3 at its ends).
4. Black frames belong to a transition, with the fade before and after them.
5. A flash is none: where the picture before and the picture after it are alike, the shot goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from hunyuan_video.curation.shots.content import content, hsv
from hunyuan_video.curation.shots.network import BLOCK, CONTEXT, WINDOW, TransitionNetwork

SURE, NOT_RULED_OUT = 0.5, 0.1  # the network's probabilities
PART, EDGE, GRADUAL = 0.5, 0.3, 0.7
JUMP, ADAPTIVE = 27.0, 3.0  # PySceneDetect's defaults: content score; ratio to the mean of two neighbors on each side
STILL, STILL_OVER = 3.0, 5.0  # content score from frame to frame, and over ten frames, below which nothing changes
LAG = 10
BLACK, BLACK_SPREAD = 16.0, 5.0  # mean and standard deviation of a black frame, 0..255
FADE, CUT_TO_BLACK = 0.3, 40.0  # brightness that a fade changes from frame to frame at least, and at most
LONGEST_FADE = 50
FLASH = 0.35  # share of a jump's score that remains between the pictures around it
AROUND = 3  # frames from a jump to the pictures that are compared

Probabilities = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Transition:
    """Frames end..start - 1 belong to neither shot; a hard cut has none (end = start)."""

    end: int  # the earlier shot's, exclusive
    start: int  # of the later shot
    score: float  # 0..1


@dataclass
class Splitter:
    """Takes thumbnails in order and gives transitions, at most two blocks late; keeps 200 of them."""

    network: Probabilities = field(default_factory=TransitionNetwork)
    first: int = 0  # frame of the oldest thumbnail that is kept
    judged: int = 0  # frames that the network has seen
    done: int = 0  # frames whose transitions are out
    thumbnails: list[np.ndarray] = field(default_factory=list)
    single: list[float] = field(default_factory=list)
    many: list[float] = field(default_factory=list)

    def push(self, thumbnail: np.ndarray) -> list[Transition]:  # uint8 [27, 48, 3]
        self.thumbnails.append(thumbnail)
        if self.first + len(self.thumbnails) < self.judged + BLOCK + CONTEXT:
            return []
        self._judge(BLOCK)
        return self._settle(self.judged - LONGEST_FADE // 2)

    def finish(self) -> list[Transition]:
        """The transitions that are left when the video has ended."""
        count = self.first + len(self.thumbnails)
        while self.judged < count:
            self._judge(min(BLOCK, count - self.judged))
        return self._settle(count) if count else []

    def _judge(self, size: int) -> None:
        """Adds the network's probabilities of the next frames."""
        start, count = self.judged - self.first, len(self.thumbnails)
        places = np.clip(np.arange(start - CONTEXT, start - CONTEXT + WINDOW), 0, count - 1)
        window = np.stack([self.thumbnails[place] for place in places])
        single, many = np.zeros(WINDOW), np.zeros(WINDOW)
        if _moves(hsv(window)):
            single, many = self.network(window)
        self.single += single[CONTEXT : CONTEXT + size].tolist()
        self.many += many[CONTEXT : CONTEXT + size].tolist()
        self.judged += size

    def _settle(self, until: int) -> list[Transition]:
        """Transitions that end before `until`, and forgets what later ones do not need."""
        count = min(len(self.thumbnails), len(self.single))
        pictures = hsv(np.stack(self.thumbnails[:count]))
        signals = Signals(pictures, np.array(self.single[:count]), np.array(self.many[:count]))
        found = []
        whole = self.first + len(self.thumbnails)
        for end, start, score in signals.transitions():
            end, start = end + self.first, start + self.first
            if start <= self.done or (start >= until and until < whole):
                continue
            found.append(Transition(end, start, score))
            self.done = start
        keep = max(min(self.done, until), until - LONGEST_FADE - CONTEXT, self.first)
        keep = min(keep, max(self.judged - CONTEXT - LAG, self.first))
        drop = keep - self.first
        self.done = max(self.done, min(until, whole) - LONGEST_FADE)
        for values in (self.thumbnails, self.single, self.many):
            del values[:drop]
        self.first = keep
        return found


def _moves(pictures: np.ndarray) -> bool:  # of `hsv`, [N, 27, 48, 3]
    if content(pictures[:-1], pictures[1:]).max(initial=0.0) > STILL:
        return True
    return bool(content(pictures[:-LAG], pictures[LAG:]).max(initial=0.0) > STILL_OVER)


@dataclass
class Signals:
    """Everything that is known of some frames in a row."""

    pictures: np.ndarray  # of `hsv`, [N, h, w, 3]
    single: np.ndarray  # [N]
    many: np.ndarray  # [N]

    def __post_init__(self) -> None:
        count = len(self.pictures)
        self.jumps = np.zeros(count)  # at the first frame after it
        self.jumps[1:] = content(self.pictures[:-1], self.pictures[1:])
        values = self.pictures[..., 2].reshape(count, -1)
        self.light = values.mean(1)
        self.black = (self.light < BLACK) & (values.std(1) < BLACK_SPREAD)

    def transitions(self) -> list[tuple[int, int, float]]:
        """(end, start, score) in order, without overlap."""
        found = []
        for first, last in _runs(self._suspicious()):
            found += self._transition(first, last)
        merged: list[tuple[int, int, float]] = []
        for end, start, score in sorted(found):
            if merged and end <= merged[-1][1]:
                end, start, score = merged[-1][0], max(start, merged[-1][1]), max(score, merged[-1][2])
                merged.pop()
            merged.append((end, start, score))
        return merged

    def _suspicious(self) -> np.ndarray:
        neighbors = np.convolve(self.jumps, [1, 1, 0, 1, 1], "same") / 4
        spikes = (self.jumps >= JUMP) & (self.jumps >= ADAPTIVE * neighbors)
        near = np.convolve(self.single, np.ones(5), "same") >= NOT_RULED_OUT
        before = np.zeros_like(spikes)
        before[:-1] = (spikes & near)[1:]  # the frame before it, as the network counts
        return (self.single >= SURE) | (self.many >= PART) | self.black | before

    def _transition(self, first: int, last: int) -> list[tuple[int, int, float]]:
        """Frames first..last in a row are suspicious."""
        count = len(self.jumps)
        score = float(max(self.single[first : last + 1].max(), self.many[first : last + 1].max()))
        if self.black[first : last + 1].any():
            return [(*self._fade(first, last), max(score, 0.5))]
        if last - first < 3:
            place = first + int(self.jumps[first : min(last + 3, count)].argmax())
            return [] if place == 0 or self._is_flash(place, place) else [(place, place, score)]
        while first > 0 and self.many[first - 1] >= EDGE:
            first -= 1
        while last + 1 < count and self.many[last + 1] >= EDGE:
            last += 1
        if self.many[first : last + 1].max() < GRADUAL or self._is_flash(first, last + 1):
            return []
        return [(first, last + 1, score)]

    def _is_flash(self, end: int, start: int) -> bool:
        """True if the pictures around a change are alike."""
        before, after = max(end - AROUND, 0), min(start + AROUND - 1, len(self.jumps) - 1)
        remains = content(self.pictures[before : before + 1], self.pictures[after : after + 1])[0]
        highest = self.jumps[max(end, 1) : start + 1].max(initial=0.0)
        return bool(remains < FLASH * highest)

    def _fade(self, first: int, last: int) -> tuple[int, int]:
        """Black frames with the darkening before them and the brightening after them."""
        count = len(self.light)
        black = np.flatnonzero(self.black[first : last + 1]) + first
        end, start = int(black[0]), int(black[-1]) + 1
        limit = max(end - LONGEST_FADE, 0)
        while end > limit and FADE < self.light[end - 1] - self.light[end] < CUT_TO_BLACK:
            end -= 1
        limit = min(start + LONGEST_FADE, count)
        while start < limit - 1 and FADE < self.light[start + 1] - self.light[start] < CUT_TO_BLACK:
            start += 1
        return min(end, max(first, 0)) if last - first >= 3 else end, max(start, last + 1)


def _runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """First and last place of every run of True."""
    edges = np.diff(np.concatenate(([0], mask.astype(np.int8), [0])))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) - 1
    return list(zip(starts.tolist(), ends.tolist(), strict=True))
