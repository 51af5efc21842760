"""Flow matching: schedules, solvers, guidance and the training objective. Knows tensors only, no model."""

from hunyuan_video.flow.first_frame import with_first_frame
from hunyuan_video.flow.guidance import both_branches, classifier_free_guidance, guided, rescale_guidance
from hunyuan_video.flow.integrate import advance, integrate
from hunyuan_video.flow.objective import (
    FlowBatch,
    FlowObjective,
    interpolate,
    sample_timesteps,
    velocity_target,
)
from hunyuan_video.flow.schedule import FlowSchedule, per_sample
from hunyuan_video.flow.shift import default_shift, resolution_shift, shift_times
from hunyuan_video.flow.solvers import (
    SOLVERS,
    AdamsBashforthSolver,
    EulerSolver,
    HeunSolver,
    LCMSolver,
    Solver,
    euler_step,
    make_solver,
)

__all__ = [
    "SOLVERS",
    "AdamsBashforthSolver",
    "EulerSolver",
    "FlowBatch",
    "FlowObjective",
    "FlowSchedule",
    "HeunSolver",
    "LCMSolver",
    "Solver",
    "advance",
    "both_branches",
    "classifier_free_guidance",
    "default_shift",
    "euler_step",
    "guided",
    "integrate",
    "interpolate",
    "make_solver",
    "per_sample",
    "rescale_guidance",
    "resolution_shift",
    "sample_timesteps",
    "shift_times",
    "velocity_target",
    "with_first_frame",
]
