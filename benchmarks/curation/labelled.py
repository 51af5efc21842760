"""Labelled cases, made of packages' media: camera moves over photographs; subtitles, borders, logos and copies; videos
with known cuts and fades.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont

from benchmarks.curation import media
from benchmarks.curation.media import photos
from hunyuan_video.curation.shots.content import thumbnail
from hunyuan_video.curation.shots.split import Splitter, Transition
from hunyuan_video.data.toyworld.geometry import apply, camera_matrix
from hunyuan_video.data.toyworld.vocabulary import CAMERAS

SIZE = (144, 256)
REACH = 0.62  # of the picture's halves that the view sees, so that a moving one stays on the picture


def move(  # uint8 [F, 144, 256, 3]
    picture: np.ndarray, camera: str, frames: int = 36, strength: float = 1.0, phase: float = 0.0
) -> np.ndarray:
    """A camera of the toy world's definitions over a picture: pans by a fifth of the height, zooms by half."""
    tensor = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float()
    height, width = SIZE
    y, x = (torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in SIZE)
    unit = 64 / height
    progress = torch.linspace(0, 1, frames)
    matrices = camera_matrix(camera, progress, (phase, 1 + phase, 2 + phase, 3 + phase), strength)
    world_x, world_y = apply(matrices, unit * x.view(1, 1, -1), unit * y.view(1, -1, 1))
    grid = torch.stack((world_x / (32 * width / height), world_y / 32), -1) * REACH
    views = F.grid_sample(tensor.expand(frames, -1, -1, -1), grid.expand(frames, height, width, 2),
                          mode="bilinear", padding_mode="reflection", align_corners=False)  # fmt: skip
    return views.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()


def cases(strengths: tuple[float, ...] = (0.6, 1.0)) -> Iterator[tuple[str, str, np.ndarray]]:
    """(class, picture's name, clip) of every class over every photograph."""
    for index, (name, picture) in enumerate(photos()):
        for camera in CAMERAS:
            for strength in strengths:
                yield camera, name, move(picture, camera, strength=strength, phase=0.7 * index)


SENTENCES = ("Where have you been all day?", "I told you not to come here.", "Three years later", "Nobody knows yet.")


def clips() -> Iterator[tuple[str, np.ndarray]]:  # uint8 [F, H, W, 3]
    """(name, moving clip at 640 x 360 or so) without text, borders and logos."""
    for index, (name, picture) in enumerate(media.photos()):
        camera = ("pan right", "zoom in", "pan up", "around left")[index % 4]
        clip = move(picture, camera, frames=100, phase=index)
        yield name, np.stack([cv2.resize(frame, (640, 360), interpolation=cv2.INTER_CUBIC) for frame in clip[::12]])
    if media.video("bikes"):
        bikes = media.frames("bikes", 640)
        for number, (start, end) in enumerate(((31, 75), (77, 136), (188, 241))):
            yield f"bikes{number}", bikes[start:end:8]


def subtitled(clip: np.ndarray, number: int) -> np.ndarray:
    height, width = clip.shape[1:3]
    font = ImageFont.load_default(size=max(height // 16, 14))
    out = []
    for frame in clip:
        picture = Image.fromarray(frame)
        ImageDraw.Draw(picture).text(
            (width / 2, height * 0.92), SENTENCES[number % len(SENTENCES)], font=font, anchor="mm",
            fill="white", stroke_width=2, stroke_fill="black",
        )  # fmt: skip
        out.append(np.asarray(picture))
    return np.stack(out)


def boxed(clip: np.ndarray, number: int) -> tuple[np.ndarray, tuple[float, float]]:
    """(clip with bars at two sides, (bar's share of the height, of the width))."""
    height, width = clip.shape[1:3]
    bar = (0.06, 0.1, 0.14)[number % 3]
    across = number % 2
    top, left = (0, round(bar * width)) if across else (round(bar * height), 0)
    out = clip.copy()
    if across:
        out[:, :, :left] = out[:, :, width - left :] = 0
    else:
        out[:, :top] = out[:, height - top :] = 0
    return out, (top / height, left / width)


def marked(clip: np.ndarray, number: int) -> tuple[np.ndarray, tuple[float, float]]:
    """(clip with a logo in a corner, the logo's middle as shares of height and width)."""
    height, width = clip.shape[1:3]
    size = height // 9
    top = (round(0.05 * height), round(0.95 * height) - size)[number % 2]
    left = (round(0.04 * width), round(0.96 * width) - 2 * size)[number // 2 % 2]
    out = clip.copy()
    for frame in out:
        cv2.rectangle(frame, (left, top), (left + 2 * size, top + size), (230, 230, 240), 2)
        cv2.circle(frame, (left + size // 2, top + size // 2), size // 3, (250, 60, 40), -1)
        cv2.line(frame, (left + size, top + 6), (left + 2 * size - 6, top + size - 6), (240, 240, 250), 3)
    return out, ((top + size / 2) / height, (left + size) / width)


def lettered(clip: np.ndarray, number: int) -> tuple[np.ndarray, tuple[float, float]]:
    """As `marked`, with see-through words in the place of the logo, and each picture compressed after it."""
    height, width = clip.shape[1:3]
    scale, font = 0.9 * height / 360, cv2.FONT_HERSHEY_DUPLEX
    (w, h), _ = cv2.getTextSize("FILM 7", font, scale, 2)
    left = (round(0.03 * width), round(0.97 * width) - w)[number % 2]
    bottom = (round(0.05 * height) + h, round(0.95 * height))[number // 2 % 2]
    out = []
    for frame in clip:
        over = frame.copy()
        cv2.putText(over, "FILM 7", (left, bottom), font, scale, (255, 255, 255), 2)
        out.append(_compressed(cv2.addWeighted(frame, 0.3, over, 0.7, 0), 50))
    return np.stack(out), ((bottom - h / 2) / height, (left + w / 2) / width)


def without_logos() -> Iterator[np.ndarray]:  # uint8 [F, H, W, 3]
    """Pictures of real shots."""
    if media.video("bikes"):
        for name in ("bunny", "phone", "phone_bad"):
            shot = media.frames(name, 640)
            yield from (shot[start : start + 60 : 8] for start in range(0, len(shot) - 60, 30))
        bikes, places = media.frames("bikes", 640), (0, *media.BIKES_CUTS)
        for start, end in zip(places, places[1:], strict=False):
            yield bikes[start : end : max((end - start) // 6, 1)]
    if media.video("earth"):
        earth = media.frames("earth", 640, 300)
        yield from (earth[start : start + 100 : 12] for start in (0, 100, 200))


def _compressed(frame: np.ndarray, quality: int) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 1)


def copies(clip: np.ndarray, number: int) -> Iterator[tuple[str, np.ndarray]]:
    """(kind, copy): smaller, harder compressed, a little cropped, brighter, every second frame."""
    height, width = clip.shape[1:3]
    yield "smaller", np.stack([cv2.resize(f, (width // 2, height // 2), interpolation=cv2.INTER_AREA) for f in clip])
    yield "compressed", np.stack([_compressed(frame, 25) for frame in clip])
    y, x = height // 16, width // 16
    yield "cropped", clip[:, y:-y, x:-x]
    yield "brighter", np.clip(clip.astype(np.int16) + 14, 0, 255).astype(np.uint8)
    yield "half", clip[::2]


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
