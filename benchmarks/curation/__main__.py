"""Curation on labelled cases: python -m benchmarks.curation [shots cameras overlays duplicates race]. Prints tables."""

from __future__ import annotations

import sys
from collections import Counter

import cv2
import numpy as np

from benchmarks.curation import labelled, media
from benchmarks.curation.race import print_race
from hunyuan_video.curation.duplicates import SAME
from hunyuan_video.curation.stages.borders import border_crop, lines
from hunyuan_video.curation.stages.camera import camera_scores
from hunyuan_video.curation.stages.crop import Crop
from hunyuan_video.curation.stages.embedding import Embedder, mean_embedding
from hunyuan_video.curation.stages.flow import FlowMeter
from hunyuan_video.curation.stages.logos import find_logos, small_gray
from hunyuan_video.curation.stages.text import TextReader, subtitle_crop
from hunyuan_video.data.toyworld.vocabulary import CAMERAS


def gray(frame: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)


def print_shots() -> None:
    for name, make, slack in (("hard cuts", labelled.hard_cuts, 1), ("fades", labelled.fades, 3)):
        counts = []
        for seed in range(3):
            joined = labelled.split(make(seed).frames), make(seed).cuts
            counts.append(labelled.hits(*joined, slack))
        right, found, true = (sum(column) for column in zip(*counts, strict=True))
        print(f"{name}: F1 {labelled.f1(counts):.3f} ({right} right, {found} found, {true} true)")


def camera_of(clip: np.ndarray) -> str:
    meter = FlowMeter()
    flows = [flow for i in range(0, len(clip), 2) if (flow := meter.see(clip[i], i / 24))]
    return camera_scores(flows, Crop(), labelled.SIZE[1] / labelled.SIZE[0]).camera


def print_cameras() -> None:
    table: Counter[tuple[str, str]] = Counter()
    for camera, _, clip in labelled.cases((0.6, 1.0)):
        table[camera, camera_of(clip)] += 1
    right = sum(count for (true, found), count in table.items() if true == found)
    print(f"cameras: {right / table.total():.3f} of {table.total()}\n")
    print("| shown \\ found | " + " | ".join(CAMERAS) + " |\n|" + "---|" * (len(CAMERAS) + 1))
    for true in CAMERAS:
        print(f"| {true} | " + " | ".join(str(table[true, found] or "") for found in CAMERAS) + " |")


def rates(name: str, outcomes: list[tuple[bool, bool]]) -> None:
    """outcomes: (is there, is found)."""
    right = sum(true and found for true, found in outcomes)
    found, true = sum(found for _, found in outcomes), sum(true for true, _ in outcomes)
    print(f"{name}: precision {right / max(found, 1):.3f}, recall {right / max(true, 1):.3f} of {len(outcomes)}")


def print_overlays() -> None:
    reader = TextReader()
    text: list[tuple[bool, bool]] = []
    borders: list[tuple[bool, bool]] = []
    logos: list[tuple[bool, bool]] = []
    words: list[tuple[bool, bool]] = [(False, bool(_logos(shot))) for shot in labelled.without_logos()]
    for number, (_, clip) in enumerate(labelled.clips()):
        for true, version in ((False, clip), (True, labelled.subtitled(clip, number))):
            crop = subtitle_crop([reader.see(frame) for frame in version[::2]], Crop())
            text.append((true, crop != Crop() and (not true or 0.7 < crop.bottom < 0.93)))
        version, (top, left) = labelled.boxed(clip, number)
        crop = border_crop([lines(gray(frame)) for frame in version])
        borders.append((True, abs(crop.y - top) < 0.015 and abs(crop.x - left) < 0.015))
        borders.append((False, border_crop([lines(gray(frame)) for frame in clip]) != Crop()))
        logos.append((True, _is_marked(*labelled.marked(clip, number))))
        logos.append((False, bool(_logos(clip))))
        words += [(True, _is_marked(*labelled.lettered(clip, number + shift))) for shift in (1, 4)]
    rates("subtitles", text)
    rates("borders", borders)
    rates("logos", logos)
    rates("see-through words in a corner, and real shots", words)


def _logos(clip: np.ndarray) -> list[tuple[float, float]]:
    """The middles of logos, as shares of height and width."""
    found = find_logos([small_gray(gray(frame)) for frame in clip], Crop())
    return [((logo.top + logo.bottom) / 2, (logo.left + logo.right) / 2) for logo in found]


def _is_marked(clip: np.ndarray, middle: tuple[float, float]) -> bool:
    return any(abs(y - middle[0]) < 0.06 and abs(x - middle[1]) < 0.06 for y, x in _logos(clip))


def print_duplicates() -> None:
    embedder = Embedder()

    def embed(clip: np.ndarray) -> np.ndarray:
        return mean_embedding([embedder.see(frame)[1] for frame in clip[:: max(len(clip) // 3, 1)]])

    originals, outcomes, kinds = [], [], Counter[str]()
    for number, (name, clip) in enumerate(labelled.clips()):
        vector = embed(clip)
        for kind, copy in labelled.copies(clip, number):
            found = float(vector @ embed(copy)) >= SAME
            outcomes.append((True, found))
            kinds[kind] += found
        outcomes += [(False, float(vector @ other) >= SAME) for _, other in originals]
        originals.append((name, vector))
    rates("duplicates", outcomes)
    print("  found by kind:", dict(kinds), "of", len(originals))


PARTS = {
    "shots": print_shots,
    "cameras": print_cameras,
    "overlays": print_overlays,
    "duplicates": print_duplicates,
    "race": print_race,
}


def main() -> None:
    if media.video("bikes") is None or not list(media.photos()):
        sys.exit('the cases need media: pip install "hunyuan-ext[curate-cases]"')
    for name in sys.argv[1:] or PARTS:
        if name not in PARTS:
            sys.exit(f"no part {name}; the parts are {', '.join(PARTS)}")
        PARTS[name]()


if __name__ == "__main__":
    main()
