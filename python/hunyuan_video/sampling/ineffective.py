"""Arguments that are given and change nothing: each is told in one line, with what would make it count."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hunyuan_video.sampling.request import Settings


def ineffective(given: Mapping[str, Any], settings: Settings, guidance_embed: bool) -> list[str]:
    """A line for every argument of a call that its other arguments, or the model, leave without effect.

    given: argument -> value, None where it was left out. guidance_embed: of the transformer's config.
    """
    lines = []
    if given.get("guidance_scale") is not None and not guidance_embed:
        lines.append("guidance_scale has no effect on this model; use true_cfg_scale")
    if settings.true_cfg_scale <= 1:
        needs_guidance = ("negative_prompt", "negative_prompt_embeds", "guidance_rescale")
        names = [name for name in needs_guidance if _is_set(given.get(name))]
        lines += [f"{name} has no effect without guidance; set true_cfg_scale above 1" for name in names]
    if given.get("output_type") == "latent" and given.get("vae_mode") not in (None, "auto"):
        lines.append("vae_mode has no effect on latents, which are not decoded")
    if given.get("checkpoint_to") is None and given.get("checkpoint_every") not in (None, 1):
        lines.append("checkpoint_every has no effect without checkpoint_to")
    return lines


def _is_set(value: Any) -> bool:
    """True for a value that asks for something: not left out, not zero, not empty."""
    return value is not None and not (isinstance(value, str | float | int) and not value)
