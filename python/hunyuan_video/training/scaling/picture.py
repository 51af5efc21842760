"""A study as one picture: loss curves and envelope, optimal size, optimal data, IsoFLOP profiles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hunyuan_video.files import staged_file
from hunyuan_video.lazy import optional_package
from hunyuan_video.training.scaling.curves import Curve
from hunyuan_video.training.scaling.report import Fit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

SAME_BUDGET = 1.2  # the last step of a run may end a little before or after its budget


def plot(path: Path, curves: list[Curve], fit: Fit) -> None:
    """Writes a PNG with four panels. Raises UserError where matplotlib is not installed."""
    drawing = optional_package("matplotlib.figure", "the plot", "scaling")
    figure = drawing.Figure(figsize=(16, 4.6), layout="constrained")
    losses, sizes, tokens, profiles = figure.subplots(1, 4)
    _losses(losses, curves, fit)
    _law(sizes, curves, fit, "parameters", "N (billions)", "optimal size")
    _law(tokens, curves, fit, "tokens", "D (billions of tokens)", "optimal data")
    _profiles(profiles, curves)
    with staged_file(path) as file:
        figure.savefig(file, dpi=110, format="png")


def _losses(axis: Axes, curves: list[Curve], fit: Fit) -> None:
    ordered = sorted({curve.parameters for curve in curves})
    for size, parameters in enumerate(ordered):
        same_size = sorted((c for c in curves if c.parameters == parameters), key=lambda c: -c.compute[-1])
        for index, curve in enumerate(same_size):
            label = f"{parameters * 1e3:.3g} M" if index == 0 else None
            axis.loglog(curve.compute, curve.loss, color=f"C{size}", lw=0.9, label=label)
    if fit.envelope:
        points = fit.envelope.points
        axis.loglog([p.compute for p in points], [p.loss for p in points], "ko", ms=4, label="envelope points")
    axis.set(xlabel="C (PetaFLOP)", ylabel="validation loss", title="loss curves and envelope")
    _plain_ticks(axis.xaxis, axis.yaxis)
    axis.legend(fontsize=7)


def _law(axis: Axes, curves: list[Curve], fit: Fit, key: str, unit: str, title: str) -> None:
    span = np.geomspace(min(c.compute[0] for c in curves), max(c.compute[-1] for c in curves), 50)
    if fit.envelope:
        at = [p.compute for p in fit.envelope.points]
        axis.loglog(at, [getattr(p, key) for p in fit.envelope.points], "ko", ms=4, label="envelope points")
        law = getattr(fit.envelope.law, key)
        axis.loglog(span, [law(c) for c in span], "k-", label=f"envelope: {law.a:.3g} C^{law.b:.3f}")
    if fit.surface:
        law = getattr(fit.surface.law(), key)
        axis.loglog(span, [law(c) for c in span], "C3--", label=f"parametric: {law.a:.3g} C^{law.b:.3f}")
    axis.set(xlabel="C (PetaFLOP)", ylabel=unit, title=title)
    _plain_ticks(axis.xaxis, axis.yaxis)
    axis.legend(fontsize=7)


def _profiles(axis: Axes, curves: list[Curve]) -> None:
    for ends in by_budget(curves):
        points = sorted((curve.parameters, float(curve.loss[-1])) for curve in ends)
        compute = np.median([curve.compute[-1] for curve in ends])
        axis.semilogx(*zip(*points, strict=True), "o-", ms=4, lw=0.9, label=f"{compute:.1g} PF")
    axis.set(xlabel="N (billions)", ylabel="final validation loss", title="IsoFLOP profiles")
    _plain_ticks(axis.xaxis)
    axis.legend(fontsize=7)


def by_budget(curves: list[Curve]) -> list[list[Curve]]:
    """Curves whose last compute is about the same, from the smallest on."""
    groups: list[list[Curve]] = []
    for curve in sorted(curves, key=lambda by_end: float(by_end.compute[-1])):
        if groups and curve.compute[-1] < SAME_BUDGET * groups[-1][0].compute[-1]:
            groups[-1].append(curve)
        else:
            groups.append([curve])
    return groups


def _plain_ticks(*axes: Axis) -> None:
    """Logarithmic axes of any length with a few numbers that do not run into each other."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for axis in axes:
        low, high = axis.get_view_interval()
        for subs in ((1,), (1, 3), (1, 2, 5), (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8)):
            locator = LogLocator(subs=subs)
            if sum(low <= tick <= high for tick in locator.tick_values(low, high)) >= 3:
                break
        axis.set_major_locator(locator)
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.2g}".replace("e-0", "e-")))
        axis.set_minor_formatter(NullFormatter())
