"""Trains the tiny Llama on captions: next word, plus the attributes of the scene from the state that is used later."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hunyuan_video.data.toyworld.scene import AnyWorld
from hunyuan_video.errors import UserError
from hunyuan_video.models.text import LlamaConfig, LlamaModel, NativeTokenizer, PromptTemplate, Template
from hunyuan_video.rules import ABOVE_ZERO, AT_LEAST_ONE, NOT_NEGATIVE, limited
from hunyuan_video.training.text.captions import NOT_MENTIONED, attribute_sizes, describe, labels
from hunyuan_video.training.text.descent import Descent
from hunyuan_video.training.text.heads import AttributeHeads

SKIP_LAYER = 2  # as HunyuanVideo: the output of the third layer from the end is what the video transformer reads
FRAME = (
    "<|start_header_id|>system<|end_header_id|>\n\nDescribe the {} by its objects, motion, background and camera:"
    "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
)
FRAME_END = "<|eot_id|>"


@dataclass(frozen=True)
class LanguageModelConfig:
    """Sizes and schedule. attribute_weight: weight of the attribute loss beside the next-word loss."""

    hidden_size: int = limited(128, AT_LEAST_ONE)
    intermediate_size: int = limited(192, AT_LEAST_ONE)
    layers: int = limited(4, AT_LEAST_ONE)
    heads: int = limited(4, AT_LEAST_ONE)
    kv_heads: int = limited(2, AT_LEAST_ONE)
    steps: int = limited(600, AT_LEAST_ONE)
    batch: int = limited(48, AT_LEAST_ONE)
    learning_rate: float = limited(2e-3, ABOVE_ZERO)
    attribute_weight: float = limited(0.5, NOT_NEGATIVE)

    def __post_init__(self) -> None:
        if self.hidden_size % self.heads or self.heads % self.kv_heads:
            raise UserError(
                f"hidden_size {self.hidden_size} must be a multiple of heads = {self.heads}, and they of kv_heads = "
                f"{self.kv_heads}"
            )


def tiny_template(tokenizer: Any, text_length: int) -> PromptTemplate:
    """The frames of the tiny checkpoint; crop_start is counted with its own tokenizer."""

    def frame(kind: str) -> Template:
        prefix = FRAME.replace("{}", kind)
        return Template(prefix + "{}" + FRAME_END, crop_start=len(tokenizer.encode(prefix).ids))

    return PromptTemplate(image=frame("image"), video=frame("video"), text_length=text_length)


def train_language_model(
    world: AnyWorld,
    tokenizer: Any,
    template: PromptTemplate,
    config: LanguageModelConfig,
    *,
    seed: int = 0,
    log: Callable[[str], None] = print,
) -> tuple[LlamaModel, list[float]]:
    """The trained model in float32 and the loss of every step. Captions come from the training split of the world."""
    torch.manual_seed(seed)
    model = LlamaModel(_llama_config(tokenizer, config))
    model.apply(_init)
    next_word = nn.Linear(config.hidden_size, model.config.vocab_size, bias=False)
    heads = AttributeHeads(config.hidden_size, attribute_sizes(world))
    parameters = [p for module in (model, next_word, heads) for p in module.parameters()]
    descent = Descent(parameters, config.learning_rate, config.steps)
    encode = NativeTokenizer(tokenizer, pad_id=0)
    rng = random.Random(seed)
    for step in range(config.steps):
        scenes = world.scenes(config.batch, seed=seed, split="train", start=step * config.batch)
        texts = [describe(scene, rng) for scene in scenes]
        frame = rng.choice((template.video, template.video, template.image))
        tokens = encode([frame.fill(text) for text in texts], template.text_length + frame.crop_start)
        length = int(tokens.mask.sum(dim=1).max())
        ids, mask = tokens.ids[:, :length], tokens.mask[:, :length]
        with torch.autocast("cpu", torch.bfloat16):
            states = model.hidden_states(ids, mask)
            word_loss = next_word_loss(next_word(states[-1]), ids, mask, frame.crop_start)
            used = states[-(SKIP_LAYER + 1)]
            attribute_loss = heads.loss(last_valid(used, mask), labels(world, scenes, texts))
        descent.step(word_loss + config.attribute_weight * attribute_loss)
        if step % 100 == 0 or step == config.steps - 1:
            log(f"language model {step}: next word {word_loss.item():.3f}, attributes {attribute_loss.item():.3f}")
    return model.eval().requires_grad_(False), descent.losses


def next_word_loss(
    logits: Tensor,  # [B, S, vocabulary]
    ids: Tensor,  # [B, S]
    mask: Tensor,  # [B, S]
    crop_start: int,
) -> Tensor:
    """Cross-entropy of the prompt's tokens, each predicted from those before it; the frame is not predicted."""
    target = ids.masked_fill(mask == 0, NOT_MENTIONED)[:, crop_start:]
    return F.cross_entropy(logits[:, crop_start - 1 : -1].flatten(0, 1).float(), target.flatten())


def last_valid(states: Tensor, mask: Tensor) -> Tensor:  # [B, S, D], [B, S] -> [B, D]
    """The state of the last valid token, which has seen the whole text."""
    return states[torch.arange(len(states), device="cpu"), mask.sum(dim=1) - 1]


def _llama_config(tokenizer: Any, config: LanguageModelConfig) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.kv_heads,
        rms_norm_eps=1e-5,
    )


def _init(module: nn.Module) -> None:
    # Embeddings of unit size: the residual stream, which the video transformer reads unnormalized, stays near 1.
    if isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight)
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.5 * module.in_features**-0.5)
