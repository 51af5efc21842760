"""Makes text_encoder/, tokenizer/, text_encoder_2/, tokenizer_2/ and text.json from a world's captions and clips."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from hunyuan_video.checkpoints.text import (
    load_clip_encoder,
    load_text_encoder,
    save_clip_model,
    save_llama_model,
    save_tokenizer,
)
from hunyuan_video.data.toyworld.scene import AnyWorld
from hunyuan_video.files import write_json
from hunyuan_video.rules import AT_LEAST_ONE, limited
from hunyuan_video.training.text import words
from hunyuan_video.training.text.contrastive import ClipConfig, train_clip
from hunyuan_video.training.text.evaluate import evaluate
from hunyuan_video.training.text.language_model import LanguageModelConfig, tiny_template, train_language_model


@dataclass(frozen=True)
class TextTrainingConfig:
    """text_length: text tokens that the video transformer is given. clip_length: token positions of CLIP.
    evaluation_captions: how many captions fit, and how many test, the probes."""

    text_length: int = limited(48, AT_LEAST_ONE)
    clip_length: int = limited(64, AT_LEAST_ONE)
    seed: int = 0
    evaluation_captions: int = limited(2000, AT_LEAST_ONE)
    language_model: LanguageModelConfig = field(default_factory=LanguageModelConfig)
    clip: ClipConfig = field(default_factory=ClipConfig)


def train_text(
    world: AnyWorld,
    output_folder: str | Path,
    config: TextTrainingConfig = TextTrainingConfig(),
    *,
    log: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Trains both text encoders on one thread and writes them, in bfloat16, in the layout of Hugging Face.

    Returns what it also writes to text.json: "prompt_template" and "text_length" (the entries of a checkpoint's
    sampling.json), "text_dim", "pooled_dim", "clip_length", "evaluation" and "losses" (first and last of each).
    Deterministic for a given machine, seed and thread count.
    """
    folder = Path(output_folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer, tokenizer_2 = words.language_tokenizer(world), words.clip_tokenizer(world)
    template = tiny_template(tokenizer, config.text_length)
    positions = config.text_length + max(template.image.crop_start, template.video.crop_start)
    save_tokenizer(tokenizer, words.tokenizer_config(words.LLM_SPECIAL, positions), folder / "tokenizer")
    save_tokenizer(tokenizer_2, words.tokenizer_config(words.CLIP_SPECIAL, config.clip_length), folder / "tokenizer_2")

    llama, llama_losses = train_language_model(
        world, tokenizer, template, config.language_model, seed=config.seed, log=log
    )
    save_llama_model(llama, folder / "text_encoder", positions=positions, special=_ids(tokenizer, words.LLM_SPECIAL))
    clip, contrast, clip_losses = train_clip(
        world, tokenizer_2, config.clip, positions=config.clip_length, seed=config.seed, log=log
    )
    save_clip_model(clip, folder / "text_encoder_2", special=_ids(tokenizer_2, words.CLIP_SPECIAL))

    text = load_text_encoder(folder / "text_encoder", folder / "tokenizer", template, torch.float32)
    pooled = load_clip_encoder(folder / "text_encoder_2", folder / "tokenizer_2", torch.float32)
    summary = {
        "prompt_template": template.to_dict(),
        "text_length": config.text_length,
        "text_dim": llama.config.hidden_size,
        "pooled_dim": clip.config.hidden_size,
        "clip_length": config.clip_length,
        "world": world.name,
        "losses": {"language_model": _ends(llama_losses), "clip": _ends(clip_losses)},
        "evaluation": evaluate(world, text, pooled, contrast, config.clip, count=config.evaluation_captions),
    }
    write_json(folder / "text.json", summary, indent=2)
    return summary


def _ids(tokenizer: Any, special: tuple[str, ...]) -> dict[str, int]:
    return {
        "pad_token_id": tokenizer.token_to_id(words.PAD),
        "bos_token_id": tokenizer.token_to_id(special[2]),
        "eos_token_id": tokenizer.token_to_id(special[-1]),
    }


def _ends(losses: list[float]) -> list[float]:
    return [round(losses[0], 4), round(losses[-1], 4)]
