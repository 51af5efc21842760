"""Configuration of a scaling study: a family of sizes, a list of budgets, and what every run shares."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from hunyuan_video.errors import UserError
from hunyuan_video.rules import ABOVE_ZERO, AT_LEAST_ONE, limited
from hunyuan_video.training.config import FlowRun, build, read_yaml


@dataclass(frozen=True)
class ScalingRun:
    """`kind: scaling`. Every size is trained once for every budget, with its own learning-rate schedule."""

    kind: str = "scaling"
    output: str = "runs/scaling"
    sizes: tuple[dict, ...] = ()  # TransformerConfig fields that differ from flow.model
    budgets: tuple[float, ...] = limited((), ABOVE_ZERO)  # PetaFLOP, C = 6 N D
    flow: dict = field(default_factory=dict)  # the flow-matching run that all share (keys of kind: flow)
    points: int = limited(24, AT_LEAST_ONE)  # validation losses along each run
    validation_clips: int = limited(256, AT_LEAST_ONE)  # the last clips of the cache, not trained on
    min_steps: int = limited(20, AT_LEAST_ONE)  # a (size, budget) that would take fewer steps is left out


def load_scaling(path: str | Path) -> ScalingRun:
    """Read and check a study. Raises UserError naming file, key and reason."""
    raw = read_yaml(path)
    if not isinstance(raw, dict) or raw.get("kind") != "scaling":
        raise UserError(f"{path}: a scaling study has kind: scaling")
    study = build(ScalingRun, raw, str(path))
    if len(study.sizes) < 3 or not study.budgets or min(study.budgets) <= 0:
        raise UserError(f"{path}: a study needs at least 3 sizes and a positive budget; see recipes/scaling/tiny.yaml")
    for size in range(len(study.sizes)):
        flow_run(study, size, 1, f"{path}: sizes[{size}]")
    return study


def flow_run(study: ScalingRun, size: int, steps: int, where: str = "flow") -> FlowRun:
    """The flow-matching run of one size for a number of steps."""
    raw = {"kind": "flow", **study.flow}
    raw["model"] = {**raw.get("model", {}), **study.sizes[size]}
    raw["loop"] = {**raw.get("loop", {}), "steps": steps, "sheet_every": max(steps // study.points, 1)}
    return build(FlowRun, raw, f"{where}: flow")
