"""Scaling laws of video diffusion transformers (paper section 4.4): run a family, fit the laws, plan a budget."""

from hunyuan_video.training.scaling.curves import Curve, read_curves, write_curves
from hunyuan_video.training.scaling.envelope import EnvelopePoint, fit_envelope, lower_envelope
from hunyuan_video.training.scaling.laws import PAPER, PowerLaw, ScalingLaw
from hunyuan_video.training.scaling.parametric import LossSurface, fit_surface

__all__ = [
    "PAPER", "Curve", "EnvelopePoint", "LossSurface", "PowerLaw", "ScalingLaw", "fit_envelope", "fit_surface",
    "lower_envelope", "read_curves", "write_curves",
]  # fmt: skip
