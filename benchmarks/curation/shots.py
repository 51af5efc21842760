"""Videos with known transitions, joined from packages' clips: hard cuts and fades."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from benchmarks.curation import media
from hunyuan_video.curation.shots.content import thumbnail
from hunyuan_video.curation.shots.split import Splitter, Transition

SIZE = (144, 256)


@dataclass(frozen=True)
class Joined:
    """A video and where its transitions are: (first frame of neither shot, first of the later shot)."""

    frames: np.ndarray  # uint8 [F, 144, 256, 3]
    cuts: tuple[tuple[int, int], ...]


def pieces() -> list[np.ndarray]:
    """Single shots of the packages' videos, 40 to 60 frames each."""
    shots = []
    if media.video("bikes"):
        bikes = _fit(media.frames("bikes", 320))
        places = (0, *media.BIKES_CUTS)
        shots += [bikes[start:end] for start, end in zip(places, places[1:], strict=False)]
        bunny, phone = _fit(media.frames("bunny", 320)), _fit(media.frames("phone", 320))
        shots += [bunny[:50], phone[:60], bunny[80:130], phone[70:115]]
    if media.video("earth"):
        shots.append(_fit(media.frames("earth", 320, 200))[::2][:50])
    return shots


def _fit(frames: np.ndarray) -> np.ndarray:
    return np.stack([np.asarray(Image.fromarray(frame).resize(SIZE[::-1], Image.Resampling.BOX)) for frame in frames])


def hard_cuts(seed: int) -> Joined:
    """All pieces in a random order, each cut shorter by chance."""
    rng = np.random.default_rng(seed)
    shots = [piece[: int(rng.integers(25, len(piece) + 1))] for piece in pieces()]
    order = _apart(rng, len(shots))
    places = np.cumsum([len(shots[i]) for i in order])[:-1]
    return Joined(np.concatenate([shots[i] for i in order]), tuple((int(place), int(place)) for place in places))


def fades(seed: int) -> Joined:
    """Pieces joined by dissolves and by fades through black, 8 to 24 frames long."""
    rng = np.random.default_rng(seed)
    shots = pieces()
    order = _apart(rng, len(shots))
    video, cuts = shots[order[0]], []
    for number, index in enumerate(order[1:]):
        length = int(rng.integers(8, 25))
        piece = shots[index]
        length = min(length, len(piece) // 2 - 2)
        share = np.linspace(0, 1, length + 2)[1:-1, None, None, None]
        before, after = video[-length:].astype(np.float32), piece[:length].astype(np.float32)
        start = len(video) - length
        if number % 2:
            half = np.concatenate([before * (1 - share), after * share])
            cuts.append((start, start + 2 * length))
        else:
            half = before * (1 - share) + after * share
            cuts.append((start, start + length))
        video = np.concatenate([video[:-length], half.round().astype(np.uint8), piece[length:]])
    return Joined(video, tuple(cuts))


def _apart(rng: np.random.Generator, count: int) -> list[int]:
    """A random order in which pieces of one video (the last four, by turns) do not follow each other."""
    same = {count - 5: count - 3, count - 4: count - 2} if count > 6 else {}
    while True:
        order = [int(i) for i in rng.permutation(count)]
        pairs = set(zip(order, order[1:], strict=False))
        if not any((a, b) in pairs or (b, a) in pairs for a, b in same.items()):
            return order


def split(frames: np.ndarray, network: object = None) -> list[Transition]:
    """The transitions that curation finds."""
    splitter = Splitter() if network is None else Splitter(network)  # type: ignore[arg-type]
    return [each for frame in frames for each in splitter.push(thumbnail(frame))] + splitter.finish()


def hits(found: Sequence[Transition], truth: Iterable[tuple[int, int]], slack: int) -> tuple[int, int, int]:
    """(found and true, found, true): a transition is found if one that reaches to within `slack` frames of it is."""
    left = list(found)
    right = 0
    truth = list(truth)
    for end, start in truth:
        near = [each for each in left if each.end <= start + slack and each.start >= end - slack]
        if near:
            left.remove(near[0])
            right += 1
    return right, len(found), len(truth)


def f1(counts: Iterable[tuple[int, int, int]]) -> float:
    right, found, true = (sum(column) for column in zip(*counts, strict=True))
    return 2 * right / (found + true) if found + true else 1.0
