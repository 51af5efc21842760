"""A checkpoint in miniature with random weights, in diffusers layout: for tests of sampling and the command line."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn

from hunyuan_video.models import CausalVAE, HunyuanVideoTransformer, TransformerConfig, VAEConfig
from hunyuan_video.models.text import ClipTextConfig, ClipTextModel, LlamaConfig, LlamaModel

WORDS = ["<pad>", "<s>", "</s>", "<unk>", ",", "video", "image"]
WORDS += "a red green blue circle star moves left right up on gray background".split()
SAMPLING = {
    "height": 32,
    "width": 48,
    "num_frames": 5,
    "fps": 8,
    "num_inference_steps": 4,
    "true_cfg_scale": 3.0,
    "guidance_scale": 1.0,
    "flow_shift": 3.0,
    "text_length": 8,
    "prompt_template": {
        "image": {"template": "image {} </s>", "crop_start": 2},
        "video": {"template": "video {} </s>", "crop_start": 2},
    },
}


def write_random_checkpoint(
    folder: Path, seed: int = 0, guidance_embed: bool = False, vae_config: VAEConfig | None = None
) -> Path:
    """Writes all parts into `folder`; another seed gives other weights."""
    torch.manual_seed(seed)
    transformer = randomized(
        HunyuanVideoTransformer(
            TransformerConfig(
                hidden_size=32, num_heads=2, double_blocks=1, single_blocks=1, rope_dims=(4, 6, 6), text_dim=16,
                pooled_text_dim=16, guidance_embed=guidance_embed,
            )
        )
    )  # fmt: skip
    transformer.save_pretrained(folder / "transformer")
    small = VAEConfig(block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_groups=4)
    vae = randomized(CausalVAE(vae_config or small))
    vae.save_pretrained(folder / "vae")
    text = {"vocab_size": len(WORDS), "hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    llama = {**text, "num_hidden_layers": 3, "model_type": "llama"}
    save_text_model(folder / "text_encoder", LlamaModel(LlamaConfig.from_dict(llama)), llama)
    clip = {
        **text,
        "num_hidden_layers": 1,
        "model_type": "clip_text_model",
        "eos_token_id": 2,
        "max_position_embeddings": 12,
    }
    save_text_model(folder / "text_encoder_2", ClipTextModel(ClipTextConfig.from_dict(clip)), clip)
    save_tokenizer(folder / "tokenizer", "<s> $A")
    save_tokenizer(folder / "tokenizer_2", "<s> $A </s>")
    (folder / "sampling.json").write_text(json.dumps(SAMPLING))
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "HunyuanVideoPipeline"}))
    return folder


def randomized(module: nn.Module) -> nn.Module:
    """Every weight random: freshly built models have zeros in the last layers, which would hide mistakes."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.15)
    return module.eval()


def save_text_model(folder: Path, model: nn.Module, config: dict) -> None:
    folder.mkdir(parents=True)
    save_file(dict(model.state_dict()), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))


def save_tokenizer(folder: Path, ends: str) -> None:
    folder.mkdir(parents=True)
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    tokenizer.add_special_tokens(["</s>"])
    tokenizer.post_processor = processors.TemplateProcessing(single=ends, special_tokens=[("<s>", 1), ("</s>", 2)])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": "<pad>", "tokenizer_class": "Words"}))
