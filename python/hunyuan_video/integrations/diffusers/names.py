"""diffusers' names for what a call asks for, as this package's: where both mean the same, and only there."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from hunyuan_video.errors import ArgumentError
from hunyuan_video.flow.shift import shift_times
from hunyuan_video.sampling.prompts import PromptEmbeds
from hunyuan_video.sampling.request import ARGUMENTS

EULER = "FlowMatchEulerDiscreteScheduler"
# Settings of the scheduler that change its noise levels or its step, and the value at which they do not.
NEUTRAL: dict[str, Any] = {
    "use_dynamic_shifting": False,
    "invert_sigmas": False,
    "shift_terminal": None,
    "use_karras_sigmas": False,
    "use_exponential_sigmas": False,
    "use_beta_sigmas": False,
    "stochastic_sampling": False,
    "num_train_timesteps": 1000,
}
WHY_NOT = {
    "EulerDiscreteScheduler": "it is for noise-prediction models, and on a flow-matching one gives nonsense silently",
    "FlowMatchLCMScheduler": "its noise between steps is drawn otherwise; use solver='lcm'",
    "UniPCMultistepScheduler": "no solver here is UniPC; use solver='ab2', which is of second order too",
    "FlowMatchHeunDiscreteScheduler": "diffusers' own pipelines refuse it; use solver='heun'",
}
NEGATIVE = "negative_prompt_embeds"
EMBEDS = ("prompt_embeds", "prompt_attention_mask", "pooled_prompt_embeds")
# Arguments of a diffusers call that change nothing at this value, and have no counterpart.
IDLE: dict[str, Any] = {"attention_kwargs": None, "return_dict": True, "max_sequence_length": 256}
SAME = set(
    "prompt negative_prompt image height width num_frames num_inference_steps true_cfg_scale guidance_scale "
    "num_videos_per_prompt generator latents".split()
)
OUTPUTS = ("pil", "latent")  # "np" is float32 there and uint8 here, "pt" has frames before channels there


def schedule_arguments(scheduler: Any) -> dict[str, Any]:
    """flow_shift and solver that do what a diffusers scheduler does; ArgumentError, one line, for others.

    The noise levels are those that diffusers' HunyuanVideo pipelines ask of it: equally spaced, then shifted.
    """
    name = type(scheduler).__name__
    if name != EULER:
        reason = WHY_NOT.get(name, f"the only one with a counterpart is {EULER}")
        raise ArgumentError(f"scheduler {name} has no counterpart here: {reason}")
    for setting, neutral in NEUTRAL.items():
        value = scheduler.config.get(setting, neutral)
        if value != neutral:
            raise ArgumentError(f"{EULER} with {setting}={value!r} has no counterpart here; use {setting}={neutral!r}")
    return {"flow_shift": float(scheduler.shift), "solver": "euler"}


def call_arguments(scheduler: Any = None, **given: Any) -> dict[str, Any]:
    """Arguments of a call of diffusers' HunyuanVideo pipelines, as `HunyuanVideoPipeline.__call__` takes them.

    scheduler: the pipeline's; its shift and kind go into the result. sigmas are shifted as diffusers' scheduler shifts
    them. Names that both have pass, those that mean something else or nothing here are refused by one line.
    """
    result = {} if scheduler is None else schedule_arguments(scheduler)
    left = dict(given)
    for prefix in ("", "negative_"):
        result |= _embeds(left, prefix)
    result |= _callback(left.pop("callback_on_step_end", None), left.pop("callback_on_step_end_tensor_inputs", None))
    if (sigmas := left.pop("sigmas", None)) is not None:
        result |= _levels(sigmas, left, result.pop("flow_shift", 1.0))
    if (wanted := left.pop("output_type", None)) is not None:
        if wanted not in OUTPUTS:
            raise ArgumentError(
                f"output_type {wanted!r} is not the same in both libraries; take one of {', '.join(OUTPUTS)}"
            )
        result["output_type"] = wanted
    for name, other in (("prompt_2", "prompt"), ("negative_prompt_2", "negative_prompt")):
        second = left.pop(name, None)
        if second is not None and second != left.get(other):
            raise ArgumentError(f"{name} must be as {other}: both encoders read the same sentence here")
    if (left.get("true_cfg_scale") or 1.0) > 1.0 and not (left.get("negative_prompt") or NEGATIVE in result):
        raise ArgumentError("diffusers ignores true_cfg_scale without a negative_prompt; give one, or leave it out")
    for name, value in left.items():
        if name in SAME:
            result[name] = value
        elif name not in IDLE:
            known = ", ".join(sorted(SAME | set(IDLE) | {"sigmas", "callback_on_step_end", "output_type"}))
            also = "; ours has this name: pass it to our pipeline" if name in ARGUMENTS else ""
            raise ArgumentError(f"{name} is no argument of diffusers' call that has a counterpart here{also}; {known}")
        elif value != IDLE[name]:
            raise ArgumentError(f"{name}={value!r} has no counterpart here; leave it out")
    return result


def _embeds(left: dict[str, Any], prefix: str) -> dict[str, Any]:
    names = [prefix + name for name in EMBEDS]
    values = [left.pop(name, None) for name in names]
    if all(value is None for value in values):
        return {}
    if any(value is None for value in values):
        raise ArgumentError(f"{', '.join(names)} belong together; give all three")
    text, mask, pooled = values
    return {names[0]: PromptEmbeds(text, mask, pooled)}


def _levels(sigmas: Any, left: dict[str, Any], shift: float) -> dict[str, Any]:
    """Noise levels as diffusers' scheduler makes them of given ones: it shifts these too."""
    steps = left.pop("num_inference_steps", None)
    if steps not in (None, len(sigmas)):
        raise ArgumentError(f"num_inference_steps={steps}, but there are {len(sigmas)} sigmas; leave one of them out")
    levels = torch.tensor([float(sigma) for sigma in sigmas], dtype=torch.float32)
    return {"sigmas": shift_times(levels, shift).tolist()}


def _callback(callback: Callable[..., Any] | None, names: Any) -> dict[str, Any]:
    """diffusers' callback, which gets and may return latents; where it would end the run by a flag it is refused."""
    unknown = sorted(set(names or ()) - {"latents"})
    if unknown:
        raise ArgumentError(f"callback_on_step_end_tensor_inputs has {unknown[0]!r}; callbacks get latents only here")
    return {} if callback is None else {"callback_on_step_end": partial(_called, callback)}


def _called(callback: Callable[..., Any], pipe: Any, step: int, timestep: Any, tensors: dict[str, Tensor]) -> Any:
    changes = callback(pipe, step, timestep, tensors)
    if getattr(pipe, "_interrupt", False):
        del pipe._interrupt
        raise ArgumentError(
            "a callback set pipe._interrupt, which has no meaning here; leave the loop over pipe.stream(...) instead"
        )
    return changes
