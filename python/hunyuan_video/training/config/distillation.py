"""Runs that distil the transformer: guidance into one pass, many steps into a few."""

from __future__ import annotations

from dataclasses import dataclass, field

from hunyuan_video.data.world import WorldConfig
from hunyuan_video.errors import UserError
from hunyuan_video.rules import ABOVE_ZERO, AT_LEAST_ONE, NOT_NEGATIVE, SHARE, Choice, limited
from hunyuan_video.training.config.building import path
from hunyuan_video.training.config.common import LoopConfig, OptimizerConfig


def check_device(run: GuidanceDistillationRun | StepDistillationRun) -> None:
    """UserError for a device that distillation does not compute on yet."""
    if run.loop.device != "cpu":
        raise UserError(
            f"kind {run.kind} computes on the CPU only so far; leave loop.device out, got {run.loop.device!r}"
        )


@dataclass(frozen=True)
class GuidanceDistillationRun:
    """One pass instead of two: the student takes the guidance scale as an input (paper section 5.2)."""

    kind: str = "guidance_distillation"
    output: str = path("runs/tiny/guidance")
    teacher: str = path("runs/tiny/flow/export")  # an exported transformer without guidance input
    vae: str = path("runs/tiny/vae/export")
    text: str = path("runs/tiny/text")
    world: WorldConfig = field(default_factory=WorldConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    scales: tuple[float, ...] = limited((1.0, 8.0), NOT_NEGATIVE)  # the range that w is drawn from
    # w = low + (high - low) u^power for even u: above 1, small scales are drawn more often
    scale_power: float = limited(1.0, ABOVE_ZERO)
    balanced: bool = False  # divide each clip's loss by |v_c|^2 + (w - 1)^2 |v_c - v_u|^2, which grows with w
    # share of the times that are drawn evenly from 0..1 in the place of the logit-normal ones
    even_times: float = limited(0.0, SHARE)
    t_mean: float = 0.0  # logit-normal timestep distribution
    t_std: float = limited(1.0, NOT_NEGATIVE)
    t_shift: float = limited(1.0, ABOVE_ZERO)
    sample_steps: int = limited(30, AT_LEAST_ONE)
    eval_scale: float = limited(3.0, NOT_NEGATIVE)  # w of the contact sheets
    eval_prompts: int = limited(40, NOT_NEGATIVE)
    report_scales: tuple[float, ...] = limited((1.0, 2.0, 4.0, 6.0, 8.0), NOT_NEGATIVE)
    # > 0: prompt following of student and teacher at every report scale, after the last step
    report_prompts: int = limited(0, NOT_NEGATIVE)

    def __post_init__(self) -> None:
        check_device(self)
        if len(self.scales) != 2 or not 0 <= self.scales[0] <= self.scales[1]:
            raise UserError(f"scales must be two numbers, low and high, got {list(self.scales)}")


@dataclass(frozen=True)
class StepDistillationRun:
    """A few steps instead of dozens: the student is a low-rank adapter of the teacher, or a whole copy of it."""

    kind: str = "step_distillation"
    # "consistency" (phased) or "dmd" (distribution matching, DMD2)
    method: str = limited("consistency", Choice(("consistency", "dmd")))
    output: str = path("runs/tiny/few_step")
    teacher: str = path("runs/tiny/flow/export")  # gives the targets; with a guidance input one pass, else two
    guidance_scale: float = limited(3.0, NOT_NEGATIVE)  # of the teacher
    init_from: str = path("")  # an exported transformer the student starts from; empty: the teacher
    init_adapter: str = path("")  # an exported adapter to start from
    rank: int = limited(16, NOT_NEGATIVE)  # of the student's adapter; 0: all weights are trained
    targets: tuple[str, ...] = ()  # regular expressions of module paths; empty: `models.lora.TARGETS`
    steps: int = limited(4, AT_LEAST_ONE)  # of the student
    shift: float = limited(1.0, ABOVE_ZERO)  # of the student's and the teacher's noise levels
    vae: str = path("runs/tiny/vae/export")
    text: str = path("runs/tiny/text")
    world: WorldConfig = field(default_factory=WorldConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    eval_prompts: int = limited(40, NOT_NEGATIVE)
    # consistency: noise levels of the teacher's solver, a multiple of steps
    teacher_levels: int = limited(48, AT_LEAST_ONE)
    teacher_steps: int = limited(1, AT_LEAST_ONE)  # consistency: solver steps between the two ends that must agree
    ema: float = limited(0.95, SHARE)  # consistency: of the student that gives the targets
    huber: float = limited(1e-3, NOT_NEGATIVE)  # consistency: c of the pseudo-Huber loss
    fake_updates: int = limited(5, AT_LEAST_ONE)  # dmd: steps of the fake score before each of the student's
    fake_rank: int = limited(0, NOT_NEGATIVE)  # dmd: of the fake score's adapter; 0: all weights are trained
    fake_optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)  # dmd
    score_times: tuple[float, ...] = (0.02, 0.98)  # dmd: where the two scores are compared

    def __post_init__(self) -> None:
        check_device(self)
        if self.method == "consistency" and self.teacher_levels % self.steps:
            raise UserError(f"teacher_levels must be a multiple of steps = {self.steps}, got {self.teacher_levels}")
        low, high = self.score_times if len(self.score_times) == 2 else (0.0, 0.0)
        if not 0 < low < high < 1:
            raise UserError(f"score_times must be two numbers, 0 < low < high < 1, got {list(self.score_times)}")
