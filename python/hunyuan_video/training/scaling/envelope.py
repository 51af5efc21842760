"""The lower envelope of loss curves and its power laws (paper section 4.4, Chinchilla's approach 1).

Every model is the best one between the intersections of its loss curve with those of its neighbors in size. The
points of the fit are these intersections (geometric mean of the two models) and, for a model with an intersection on
both sides, the middle of its interval in log C. Models at the ends have no known second intersection and add nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hunyuan_video.errors import UserError
from hunyuan_video.training.scaling.curves import Curve
from hunyuan_video.training.scaling.laws import PowerLaw, ScalingLaw

GRID = 400  # points per curve pair, uniform in log C


@dataclass(frozen=True)
class EnvelopePoint:
    """A point at which a size is known to be optimal; units of `laws`."""

    compute: float
    parameters: float
    tokens: float
    loss: float


class Smooth:
    """log loss and log tokens of a curve as functions of log compute, by local linear regression."""

    def __init__(self, curve: Curve, bandwidth: float):
        self.parameters = curve.parameters
        self.x, self.y = np.log(curve.compute), np.log(curve.loss)
        self.tokens = np.log(curve.tokens)
        # A window narrower than the spacing of the points would follow each of them; wider at the sparse start.
        gaps = np.gradient(self.x) if len(self.x) > 1 else np.ones(1)
        self.width = np.maximum(bandwidth * np.log(10), gaps)

    def loss(self, at: np.ndarray, values: np.ndarray | None = None) -> np.ndarray:
        """Smoothed log loss at log compute `at`: weighted line through the neighbors of each place."""
        y = self.y if values is None else values
        distance = self.x[None, :] - at[:, None]
        weight = np.exp(-0.5 * (distance / np.interp(at, self.x, self.width)[:, None]) ** 2)
        total = weight.sum(1)
        mean_x, mean_y = (weight * distance).sum(1) / total, (weight * y).sum(1) / total
        variance = (weight * distance**2).sum(1) / total - mean_x**2
        covariance = (weight * distance * y).sum(1) / total - mean_x * mean_y
        slope = np.where(variance > 1e-12, covariance / np.maximum(variance, 1e-12), 0.0)
        return mean_y - slope * mean_x

    def log_tokens(self, at: float) -> float:
        return float(np.interp(at, self.x, self.tokens))


def crossing(small: Smooth, large: Smooth) -> float | None:
    """log C beyond which the larger model stays the better one, or None if the data do not show it."""
    low, high = max(small.x[0], large.x[0]), min(small.x[-1], large.x[-1])
    if low >= high:
        return None
    grid = np.linspace(low, high, GRID)
    gap = small.loss(grid) - large.loss(grid)  # > 0: the larger model is better
    worse = np.flatnonzero(gap <= 0)
    if len(worse) == 0 or worse[-1] == GRID - 1:
        return None
    i = worse[-1]
    share = -gap[i] / (gap[i + 1] - gap[i])
    return float(grid[i] + share * (grid[i + 1] - grid[i]))


def one_curve_per_size(curves: Sequence[Curve]) -> list[Curve]:
    """The longest stable part for each size, from small to large."""
    longest: dict[float, Curve] = {}
    for curve in (c.stable() for c in curves if not (c.cooldown.size and c.cooldown.all())):
        known = longest.get(curve.parameters)
        if known is None or curve.compute[-1] > known.compute[-1]:
            longest[curve.parameters] = curve
    return [longest[size] for size in sorted(longest)]


def lower_envelope(smooth: Sequence[Smooth]) -> list[EnvelopePoint]:
    """The envelope's points from curves of increasing size; a size that is nowhere the best is left out."""
    kept: list[tuple[Smooth, float]] = []  # with the crossing at which each takes over from the one before it
    for curve in smooth:
        while kept:
            place = crossing(kept[-1][0], curve)
            if place is None or place > kept[-1][1]:
                break
            kept.pop()  # this curve is better before this size had become the best
        if not kept:
            kept.append((curve, -np.inf))
        elif place is not None:
            kept.append((curve, place))
    points = []
    for (small, _), (large, at) in zip(kept, kept[1:], strict=False):
        tokens = (small.log_tokens(at) + large.log_tokens(at)) / 2
        loss = small.loss(np.array([at]))[0]
        points.append((at, np.log(small.parameters * large.parameters) / 2, tokens, loss))
    for (curve, begin), (_, end) in zip(kept[1:], kept[2:], strict=False):
        at = (begin + end) / 2
        points.append((at, np.log(curve.parameters), curve.log_tokens(at), curve.loss(np.array([at]))[0]))
    return [EnvelopePoint(*(float(np.exp(v)) for v in point)) for point in sorted(points)]


def law_of(points: Sequence[EnvelopePoint]) -> ScalingLaw:
    compute = np.array([p.compute for p in points])
    sizes, tokens = np.array([p.parameters for p in points]), np.array([p.tokens for p in points])
    return ScalingLaw(PowerLaw.fit(compute, sizes), PowerLaw.fit(compute, tokens))


@dataclass(frozen=True)
class EnvelopeFit:
    """The law, its points, and the bootstrap's interval for each constant."""

    law: ScalingLaw
    points: list[EnvelopePoint]
    intervals: dict[str, tuple[float, float]]  # of a1, b1, a2, b2; empty without a bootstrap


def fit_envelope(
    curves: Sequence[Curve], *, bandwidth: float = 0.05, bootstrap: int = 200, level: float = 0.9, seed: int = 0
) -> EnvelopeFit:
    """Fit N_opt and D_opt to the lower envelope of the stable parts of `curves`.

    bandwidth: of the smoothing, in decades of compute. bootstrap: replicates; each disturbs every curve with blocks
    of its own residuals, takes the envelope again and draws its points with replacement. level: of the intervals.
    Raises UserError where fewer than two intersections exist.
    """
    longest = one_curve_per_size(curves)
    smooth = [Smooth(curve, bandwidth) for curve in longest]
    points = lower_envelope(smooth)
    if len(points) < 2:
        raise UserError(
            f"the loss curves of {len(smooth)} sizes give {len(points)} points of a lower envelope, at least 2 are "
            "needed; train sizes closer to each other, or longer"
        )
    law = law_of(points)
    if bootstrap <= 0:
        return EnvelopeFit(law, points, {})
    rng = np.random.default_rng(seed)
    draws = []
    for _ in range(bootstrap):
        noisy = [disturbed(curve, rng) for curve in smooth]
        again = lower_envelope(noisy)
        picked = [again[i] for i in rng.integers(len(again), size=len(again))] if again else []
        if len({p.compute for p in picked}) >= 2:
            drawn = law_of(picked)
            draws.append((drawn.parameters.a, drawn.parameters.b, drawn.tokens.a, drawn.tokens.b))
    edges = np.quantile(np.array(draws), [(1 - level) / 2, (1 + level) / 2], axis=0) if draws else np.zeros((2, 0))
    intervals = dict(zip(("a1", "b1", "a2", "b2"), map(tuple, edges.T.tolist()), strict=False))
    return EnvelopeFit(law, points, intervals)


def disturbed(curve: Smooth, rng: np.random.Generator, block: int = 4) -> Smooth:
    """A copy whose log losses are the smoothed ones plus the residuals, drawn in blocks (they are correlated)."""
    fitted = curve.loss(curve.x)
    residuals = curve.y - fitted
    starts = rng.integers(max(len(residuals) - block + 1, 1), size=-(-len(residuals) // block))
    drawn = np.concatenate([residuals[s : s + block] for s in starts])
    copy = object.__new__(Smooth)
    copy.__dict__.update(curve.__dict__)
    copy.y = fitted + np.resize(drawn, len(residuals))
    return copy
