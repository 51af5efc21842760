"""Limits of the values of settings. By name: a name means the same in every section that has it."""

from __future__ import annotations

import math
from typing import Any

from hunyuan_video.errors import UserError

AT_LEAST_ONE = frozenset(
    "steps batch threads log_every save_every keep recompute_every sample_steps clips num_frames crop crop_frames "
    "full_batch pca_clips max_stride source_frames discriminator_width discriminator_layers points validation_clips "
    "min_steps frames max_tokens max_batch fake_updates teacher_levels teacher_steps hidden_size intermediate_size "
    "layers heads kv_heads embed text_length clip_length evaluation_captions height width num_inference_steps".split()
)
NOT_NEGATIVE = frozenset(
    "micro_batches sheet_every max_skipped warmup_steps lr muon_lr weight_decay t_std t_shift_tokens held_out workers "
    "eval_prompts report_prompts rank fake_rank alpha adversarial_start latent_noise whiten huber scales report_scales "
    "guidance_scale true_cfg_scale eval_scale cfg_scale weight_l1 weight_mse weight_gradient weight_kl weight_latent "
    "weight_latent_joint weight_perceptual weight_adversarial attribute_weight".split()
)
ABOVE_ZERO = frozenset(
    "clip t_shift shift flow_shift fps limit_mb scale_power budgets anchor_shares learning_rate".split()
)
SHARES = frozenset(
    "decay ema text_dropout structured field_dropout image_ratio tiled bootstrap even_times betas".split()
)
CHOICES = {
    "precision": ("bf16", "fp32"),
    "device": ("cpu", "cuda"),
    "recompute": ("none", "blocks", "selective"),
    "train": ("all", "decoder"),
    "method": ("consistency", "dmd"),
    "dtype": ("bf16", "fp32"),
}


def check_value(name: str, value: Any, where: str) -> None:
    """UserError where a setting, or an entry of its list, has a value that makes no sense. where: path to its key."""
    if isinstance(value, str):
        if name in CHOICES and value not in CHOICES[name]:
            raise UserError(f"{where} must be one of {', '.join(CHOICES[name])}, got {value!r}")
        return
    for number in value if isinstance(value, tuple) else (value,):
        plain = isinstance(number, int | float) and not isinstance(number, bool)
        if plain and (wanted := _wanted(name, number)):
            raise UserError(f"{where} must be {wanted}, got {number:g}")


def _wanted(name: str, number: float) -> str:
    """Limit that the number breaks, or ""."""
    if not math.isfinite(number):
        return "a finite number"
    if name in AT_LEAST_ONE and number < 1:
        return "at least 1"
    if name in NOT_NEGATIVE and number < 0:
        return "at least 0"
    if name in ABOVE_ZERO and number <= 0:
        return "above 0"
    if name in SHARES and not 0 <= number <= 1 or name == "betas" and number == 1:
        return "between 0 and 1"
    return ""
