"""Camera motion: one of the paper's 14 classes from a clip's flow.

Every flow is fitted with that of a plane (a homography's first order: shift, zoom, roll, lean), robustly, so that what
moves within the picture does not count. The class of a clip is the part that carries the view furthest; a shake goes
back and forth instead. Directions are the camera's: "pan right" moves what is seen to the left. pan: the picture
shifts. tilt: it leans as well, as when a camera turns. around: it rolls. What parallax says of a camera that goes
around something is not used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hunyuan_video.curation.stages.crop import Crop
from hunyuan_video.curation.stages.flow import COLUMNS, ROWS, Flow, inside

STATIC, HANDHELD = "static shot", "handheld shot"
STILL = 0.006  # of the longer side a second, the whole view's flow of a camera that stands
BACK = 2.0  # ways of a shake to what is left of them at the end
LEAN = 0.08  # of the shift's flow, the lean of a camera that turns instead of gliding
PARTS = ("x", "y", "zoom", "roll", "lean x", "lean y")
NAMES = {"x": ("pan left", "pan right"), "y": ("pan up", "pan down"), "zoom": ("zoom in", "zoom out"),
         "roll": ("around left", "around right"), "lean x": ("tilt left", "tilt right"),
         "lean y": ("tilt up", "tilt down")}  # fmt: skip
ROUNDS = 6  # of reweighting
FEWEST = 12  # cells with texture that a fit needs


@dataclass(frozen=True)
class CameraScores:
    """A clip's class, how sure it is, and the speeds of the parts in longer sides a second."""

    camera: str
    score: float  # 0..1
    speeds: dict[str, float]


def camera_scores(flows: Sequence[Flow], crop: Crop, aspect: float) -> CameraScores:
    """The class of a clip's camera; aspect: width to height of the picture.

    A clip without flow, or with too little texture to see a camera move, counts as a static shot with score 0.
    """
    x, y = _positions(aspect)
    mask = inside(crop)
    fits = [fit for flow in flows if (fit := plane_flow(flow, x, y, mask)) is not None]
    if not fits:
        return CameraScores(STATIC, 0.0, dict.fromkeys(PARTS, 0.0))
    weights = _sizes(x, y, mask)
    rates = np.array([part * weights for part, _ in fits])  # [N, 6] flow of each part, longer sides
    seconds = np.array([flow.seconds for flow in flows]).sum()
    net, ways = rates.sum(0) / seconds, np.abs(rates).sum(0) / seconds
    return _class(net, ways, rates, seconds)


def _class(net: np.ndarray, ways: np.ndarray, rates: np.ndarray, seconds: float) -> CameraScores:
    speeds = {name: float(value) for name, value in zip(PARTS, net, strict=True)}
    smooth = _smooth(rates)
    path = np.linalg.norm(rates[:, :2], axis=1).sum() / seconds
    left = float(np.linalg.norm(net[:2]))
    steady = max(left, float(np.abs(net[2:4]).max()))
    if max(path, float(ways[2:4].max()), float(np.abs(net).max())) < STILL:
        return CameraScores(STATIC, _margin(STILL, max(path, float(ways[2:4].max()))), speeds)
    if path > BACK * left and path > 1.5 * max(float(np.abs(net[2:]).max()), STILL) and _turns(smooth) >= 2:
        return CameraScores(HANDHELD, _margin(path, BACK * steady), speeds)
    if float(np.abs(net).max()) < STILL:
        return CameraScores(STATIC, _margin(STILL, float(np.abs(net).max())), speeds)
    best = _leading(net)
    others = [abs(net[i]) for i in range(4) if PARTS[i] != best and not (best[:4] == "lean" and PARTS[i] == best[-1])]
    strength = max(abs(speeds[best]), abs(speeds.get(best[-1], 0.0)) if best[:4] == "lean" else 0.0)
    way = speeds[best]
    # The view goes where the content does not; it zooms in where the content grows; content turns left = view right.
    forward = {"zoom": way < 0, "roll": way > 0}.get(best, way < 0)
    return CameraScores(NAMES[best][int(forward)], _margin(strength, max(others, default=0.0)), speeds)


def _leading(net: np.ndarray) -> str:
    """The part that carries the view: of shift, zoom and roll the largest; a lean where it goes with the shift."""
    best = int(np.abs(net[:4]).argmax())
    lean = 4 + int(np.abs(net[4:]).argmax())
    if abs(net[lean]) > abs(net[best]):
        return PARTS[lean]
    if best < 2 and net[4 + best] * net[best] > 0 and abs(net[4 + best]) > LEAN * abs(net[best]):
        return PARTS[4 + best]
    return PARTS[best]


def _margin(strength: float, other: float) -> float:
    """0..1: how far something stands out from the next best."""
    total = abs(strength) + abs(other)
    return float(abs(strength) / total) if total > 0 else 0.0


def _smooth(rates: np.ndarray) -> np.ndarray:
    """Shifts, each the mean of three: [N, 2]."""
    padded = np.pad(rates[:, :2], ((1, 1), (0, 0)), mode="edge")
    return (padded[:-2] + padded[1:-1] + padded[2:]) / 3


def _turns(ways: np.ndarray) -> int:
    """Number of times that a view turns back on the axis where it does most, small moves aside."""
    counts = []
    for axis in range(2):
        moves = ways[:, axis]
        moves = np.sign(moves[np.abs(moves) > 0.25 * np.abs(moves).max(initial=0.0)])
        counts.append(int((np.diff(moves) != 0).sum()))
    return max(counts)


def _positions(aspect: float) -> tuple[np.ndarray, np.ndarray]:
    """Middles of the cells, from the picture's middle, in halves of the longer side: each [9, 16]."""
    x = (np.arange(COLUMNS) + 0.5) / COLUMNS * 2 - 1
    y = (np.arange(ROWS) + 0.5) / ROWS * 2 - 1
    x, y = x * min(aspect, 1.0), y / max(aspect, 1.0)
    return np.meshgrid(x, y)[0], np.meshgrid(x, y)[1]


def _columns(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Moves of the points by one unit of each part, right and down: [8, 2, ...]; the last two are shears."""
    zero, one = np.zeros_like(x), np.ones_like(x)
    return np.stack([
        np.stack(pair) for pair in (
            (one, zero), (zero, one), (x, y), (-y, x), (x * x, x * y), (x * y, y * y), (x, -y), (y, x),
        )
    ])  # fmt: skip


def _sizes(x: np.ndarray, y: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The root mean square flow of one unit of each part within the crop: [6]."""
    columns = _columns(x, y)[:6]
    inside_crop = columns[:, :, mask] if mask.any() else columns.reshape(6, 2, -1)
    return np.sqrt(np.square(inside_crop).sum(1).mean(1))


def plane_flow(flow: Flow, x: np.ndarray, y: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, float] | None:
    """(the six parts of the plane's flow [6], the error that is left), None where too little can be trusted."""
    trusted = mask & (flow.texture > 0.15)
    if trusted.sum() < FEWEST:
        return None
    design = _columns(x, y)[:, :, trusted].reshape(8, -1).T  # [2M, 8]: right of all points, then down
    target = flow.cells[trusted].T.reshape(-1).astype(np.float64)
    texture = np.tile(flow.texture[trusted], 2).astype(np.float64)
    ridge = np.diag([0, 0, 1e-3, 1e-3, 2e-2, 2e-2, 5e-2, 5e-2]) * len(target) * 0.02
    weights, parts = texture, np.zeros(8)
    for _ in range(ROUNDS):
        weighted = design * weights[:, None]
        parts = np.linalg.solve(weighted.T @ design + ridge + 1e-9 * np.eye(8), weighted.T @ target)
        error = np.hypot(*(target - design @ parts).reshape(2, -1))
        scale = max(1.4826 * float(np.median(error)), 2e-4)
        weights = texture * np.tile(1 / (1 + np.square(error / (2 * scale))), 2)
    return parts[:6], float(np.median(error))
