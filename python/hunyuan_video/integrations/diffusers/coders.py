"""The encoder and decoder of diffusers' VAE with our arithmetic, on its own modules and weights.

A network of ours stands beside diffusers' modules and holds their very dictionaries of parameters, so that whatever
moves, casts or replaces a weight does it for both. Where a module is not as diffusers made it (offloading layer by
layer, hooks, a processor of the user's), in compiled graphs and under gradient checkpointing, diffusers' own forward
runs.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from diffusers.models.autoencoders import autoencoder_kl_hunyuan_video as theirs
from torch import Tensor, nn

from hunyuan_video.models.plain import is_plain
from hunyuan_video.models.pretrained import SkipInit
from hunyuan_video.models.vae.config import VAEConfig
from hunyuan_video.models.vae.model import Decoder, Encoder, decode_pass, encode_pass

REPLACED: tuple[type, ...] = (nn.ModuleList, nn.Conv3d, nn.Linear, nn.GroupNorm, nn.SiLU, nn.Dropout, Attention)
REPLACED += (theirs.HunyuanVideoCausalConv3d, theirs.HunyuanVideoResnetBlockCausal3D, theirs.HunyuanVideoMidBlock3D)
REPLACED += (theirs.HunyuanVideoDownBlock3D, theirs.HunyuanVideoDownsampleCausal3D, theirs.HunyuanVideoUpBlock3D)
REPLACED += (theirs.HunyuanVideoUpsampleCausal3D,)


def attach(coder: nn.Module, config: VAEConfig) -> None:
    """Gives an encoder or decoder of diffusers its network of ours; ValueError where the two do not have one shape."""
    with torch.device("meta"), SkipInit():
        network = (Decoder if isinstance(coder, theirs.HunyuanVideoDecoder3D) else Encoder)(config)
    wanted = {name: weight.shape for name, weight in network.named_parameters()}
    found = {name: weight.shape for name, weight in coder.named_parameters()}
    if wanted != found:
        name = next(iter(sorted(wanted.items() ^ found.items())))[0]
        raise ValueError(f"its {name} is not the one of a VAE with this config.json")
    for name, module in network.named_modules():
        if module._parameters:
            vars(module)["_parameters"] = coder.get_submodule(name)._parameters
    vars(coder)["ours"] = network.eval(), config


def detach(coder: nn.Module) -> None:
    vars(coder).pop("ours", None)


def is_ours_to_run(coder: Any) -> bool:
    """True if a coder has our network and all its modules are as diffusers made them."""
    if "ours" not in vars(coder) or torch.compiler.is_compiling():
        return False
    if coder.gradient_checkpointing and torch.is_grad_enabled():
        return False
    return all(_as_made(child) for child in coder.children())


def _as_made(module: nn.Module) -> bool:
    if not is_plain(module, *REPLACED):
        return False
    if isinstance(module, Attention) and type(module.processor) is not AttnProcessor2_0:
        return False
    if type(module) is nn.Dropout and module.p and module.training:
        return False
    return all(_as_made(child) for child in module._modules.values() if child is not None)


class DecoderModule(theirs.HunyuanVideoDecoder3D):
    """diffusers' decoder."""

    def forward(self, hidden_states: Tensor) -> Tensor:  # [B, C, t, h, w] -> [B, 3, T, H, W]
        if is_ours_to_run(self):
            return decode_pass(vars(self)["ours"][0], hidden_states)
        return super().forward(hidden_states)


class EncoderModule(theirs.HunyuanVideoEncoder3D):
    """diffusers' encoder."""

    def forward(self, hidden_states: Tensor) -> Tensor:  # [B, 3, T, H, W] -> [B, 2 C, t, h, w]
        if is_ours_to_run(self):
            network, config = vars(self)["ours"]
            return encode_pass(network, hidden_states, config)
        return super().forward(hidden_states)


CODERS: tuple[Any, ...] = (EncoderModule, DecoderModule)
for _kind in CODERS:
    _kind.__name__ = _kind.__base__.__name__
