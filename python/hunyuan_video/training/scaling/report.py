"""The fit of a study as JSON and as a picture, and the plan for a budget."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from hunyuan_video.checkpoints.atomic import staged_file
from hunyuan_video.errors import UserError
from hunyuan_video.training.scaling.curves import Curve
from hunyuan_video.training.scaling.envelope import EnvelopeFit, fit_envelope
from hunyuan_video.training.scaling.laws import PAPER, PowerLaw, ScalingLaw
from hunyuan_video.training.scaling.parametric import LossSurface, bootstrap_surface, fit_surface

UNITS = "N and D in billions, C in PetaFLOP, C = 6 N D"


@dataclass(frozen=True)
class Fit:
    """Both fits of a study; one of them is None where the data did not allow it."""

    envelope: EnvelopeFit | None
    surface: LossSurface | None
    surface_intervals: dict[str, tuple[float, float]]


def fit_study(curves: list[Curve], *, bootstrap: int, level: float, seed: int, report=print) -> Fit:
    """Envelope and parametric fit; what one of them lacks is reported, both lacking raises UserError."""
    envelope = surface = None
    intervals: dict[str, tuple[float, float]] = {}
    try:
        envelope = fit_envelope(curves, bootstrap=bootstrap, level=level, seed=seed)
    except UserError as error:
        report(f"no envelope fit: {error}")
    finals = tuple(zip(*(curve.final() for curve in curves), strict=True))
    try:
        surface = fit_surface(*finals)
        intervals = bootstrap_surface(*finals, draws=min(bootstrap, 40), level=level, seed=seed)
    except UserError as error:
        report(f"no parametric fit: {error}")
    if envelope is None and surface is None:
        raise UserError("neither fit is possible; train more sizes or longer")
    return Fit(envelope, surface, intervals)


def constants(law: ScalingLaw) -> dict[str, float]:
    return {"a1": law.parameters.a, "b1": law.parameters.b, "a2": law.tokens.a, "b2": law.tokens.b}


def to_json(fit: Fit, level: float) -> dict:
    """What `scaling plan` reads."""
    out: dict = {"units": UNITS, "interval": level}
    if fit.envelope:
        out["envelope"] = {
            **constants(fit.envelope.law), "intervals": fit.envelope.intervals,
            "points": [asdict(point) for point in fit.envelope.points],
        }  # fmt: skip
    if fit.surface:
        surface = {**constants(fit.surface.law()), "intervals": fit.surface_intervals, "surface": asdict(fit.surface)}
        out["parametric"] = surface
    return out


def read_laws(source: str) -> dict[str, ScalingLaw]:
    """Named laws from a fit's JSON file, or the paper's ("image", "video")."""
    if source in PAPER:
        return {f"paper, {source}": PAPER[source]}
    try:
        raw = json.loads(Path(source).read_text())
        names = [name for name in ("envelope", "parametric") if name in raw]
        laws = {
            name: ScalingLaw(PowerLaw(raw[name]["a1"], raw[name]["b1"]), PowerLaw(raw[name]["a2"], raw[name]["b2"]))
            for name in names
        }
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{source}: not a fit; give the JSON of `scaling fit`, or {' or '.join(PAPER)}") from None
    if not laws:
        raise UserError(f"{source}: holds no fit; make one with `hunyuan-video scaling fit`")
    return laws


def plot(path: Path, curves: list[Curve], fit: Fit) -> None:
    """A PNG with the loss curves and the envelope, N_opt(C) and D_opt(C), and the IsoFLOP profiles."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError('the plot needs matplotlib: pip install "hunyuan-ext[scaling]"') from None
    figure = Figure(figsize=(15, 4.2), layout="constrained")
    losses, sizes, tokens, profiles = figure.subplots(1, 4)
    ordered = sorted({curve.parameters for curve in curves})
    for curve in curves:
        color = f"C{ordered.index(curve.parameters)}"
        label = f"{curve.parameters * 1e3:.3g} M" if curve == _longest(curves, curve.parameters) else None
        losses.loglog(curve.compute, curve.loss, color=color, lw=0.9, label=label)
    losses.set(xlabel="C (PetaFLOP)", ylabel="validation loss", title="loss curves and envelope")
    losses.legend(fontsize=7)
    span = np.geomspace(min(c.compute[0] for c in curves), max(c.compute[-1] for c in curves), 50)
    for axis, index, unit in ((sizes, 0, "N (billions)"), (tokens, 1, "D (billions of tokens)")):
        if fit.envelope:
            key = ("parameters", "tokens")[index]
            at = [p.compute for p in fit.envelope.points]
            axis.loglog(at, [getattr(p, key) for p in fit.envelope.points], "ko", ms=4, label="envelope points")
            law = getattr(fit.envelope.law, key)
            axis.loglog(span, [law(c) for c in span], "k-", label=f"envelope: {law.a:.3g} C^{law.b:.3f}")
        if fit.surface:
            law = (fit.surface.law().parameters, fit.surface.law().tokens)[index]
            axis.loglog(span, [law(c) for c in span], "C3--", label=f"parametric: {law.a:.3g} C^{law.b:.3f}")
        axis.set(xlabel="C (PetaFLOP)", ylabel=unit, title=f"optimal {('size', 'data')[index]}")
        axis.legend(fontsize=7)
    if fit.envelope:
        points = fit.envelope.points
        losses.loglog([p.compute for p in points], [p.loss for p in points], "ko", ms=4)
    budgets: dict[float, list[tuple[float, float]]] = {}
    for curve in curves:
        budgets.setdefault(float(f"{curve.compute[-1]:.1e}"), []).append((curve.parameters, float(curve.loss[-1])))
    for budget, ends in sorted(budgets.items()):
        profiles.semilogx(*zip(*sorted(ends), strict=True), "o-", ms=4, lw=0.9, label=f"{budget:g} PF")
    profiles.set(xlabel="N (billions)", ylabel="final validation loss", title="IsoFLOP profiles")
    profiles.legend(fontsize=7)
    with staged_file(path) as file:
        figure.savefig(file, dpi=110, format="png")


def _longest(curves: list[Curve], parameters: float) -> Curve:
    return max((c for c in curves if c.parameters == parameters), key=lambda c: c.compute[-1])
