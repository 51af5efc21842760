"""Step distillation: a student that samples in a few steps, by one of two methods behind one interface."""

from hunyuan_video.training.tasks.step_distillation.task import StepDistillationTask

__all__ = ["StepDistillationTask"]
