"""The fit of a study as JSON and as a picture, and the plan for a budget."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

from hunyuan_video.errors import Print, UserError
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


def fit_study(curves: list[Curve], *, bootstrap: int, level: float, seed: int, report: Print = print) -> Fit:
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


def to_json(fit: Fit, level: float, curves: list[Curve]) -> dict:
    """The JSON that `scaling plan` reads. compute: from the smallest to the largest run, in PetaFLOP."""
    ends = [float(curve.compute[-1]) for curve in curves]
    out: dict = {"units": UNITS, "interval": level, "compute": [min(ends), max(ends)]}
    if fit.envelope:
        out["envelope"] = {
            **constants(fit.envelope.law), "intervals": fit.envelope.intervals,
            "points": [asdict(point) for point in fit.envelope.points],
        }  # fmt: skip
    if fit.surface:
        surface = {**constants(fit.surface.law()), "intervals": fit.surface_intervals, "surface": asdict(fit.surface)}
        out["parametric"] = surface
    return out


def read_laws(source: str) -> tuple[dict[str, ScalingLaw], tuple[float, float] | None]:
    """Named laws from a fit's JSON file, or the paper's ("image", "video"); and from which compute to which they were
    measured, where that is known.
    """
    if source in PAPER:
        return {f"paper, {source}": PAPER[source]}, None
    try:
        raw = json.loads(Path(source).read_text())
        names = [name for name in ("envelope", "parametric") if name in raw]
        laws = {
            name: ScalingLaw(PowerLaw(raw[name]["a1"], raw[name]["b1"]), PowerLaw(raw[name]["a2"], raw[name]["b2"]))
            for name in names
        }
        low, high = (float(value) for value in raw.get("compute", (0, math.inf)))
        for power in (power for law in laws.values() for power in (law.parameters, law.tokens)):
            if not (0 < power.a < math.inf and math.isfinite(power.b) and power.b):
                raise ValueError(f"{power} cannot be planned with")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{source}: not a fit; give the JSON of `scaling fit`, or {' or '.join(PAPER)}") from None
    if not laws:
        raise UserError(f"{source}: holds no fit; make one with `hunyuan-video scaling fit`")
    return laws, (low, high)
