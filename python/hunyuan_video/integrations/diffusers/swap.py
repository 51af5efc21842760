"""`accelerate` and `restore`: a diffusers pipeline's blocks and VAE change their classes, and nothing else.

The modules, their weights, names and hooks stay the objects they were; so LoRA, quantization, offloading, callbacks,
`torch.compile` and `save_pretrained` go on working. Hooks that were added before keep the forward they found; those
references are turned too.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import MethodType
from typing import Any, TypeVar

from diffusers.models.autoencoders.autoencoder_kl_hunyuan_video import AutoencoderKLHunyuanVideo
from diffusers.models.transformers.transformer_hunyuan_video import HunyuanVideoTransformer3DModel
from diffusers.models.transformers.transformer_hunyuan_video_framepack import HunyuanVideoFramepackTransformer3DModel
from torch import nn

from hunyuan_video.errors import ArgumentError
from hunyuan_video.integrations.diffusers.blocks import BLOCKS
from hunyuan_video.integrations.diffusers.coders import CODERS, attach, detach
from hunyuan_video.models.vae.config import VAEConfig

Pipe = TypeVar("Pipe")
TRANSFORMERS = (HunyuanVideoTransformer3DModel, HunyuanVideoFramepackTransformer3DModel)
OURS: dict[type, type] = {kind.__bases__[-1]: kind for kind in (*BLOCKS, *CODERS)}
THEIRS = {ours: theirs for theirs, ours in OURS.items()}


def accelerate(pipe: Pipe) -> Pipe:
    """Puts our transformer blocks and VAE into a diffusers pipeline, in place; returns it. Twice is once.

    pipe: any that is built on HunyuanVideoTransformer3DModel, or FramePack's transformer of the same blocks, and
    AutoencoderKLHunyuanVideo: HunyuanVideoPipeline, HunyuanVideoImageToVideoPipeline (both kinds of image condition),
    HunyuanSkyreelsImageToVideoPipeline, HunyuanVideoFramepackPipeline. Outputs are the same to rounding. Before or
    after LoRA, offloading and compilation. Raises ArgumentError, one line, for pipelines of other models; nothing is
    changed then.
    """
    transformer, vae = parts_of(pipe)
    config = None if vae is None else vae_config(vae)
    if vae is not None and config is not None:
        for coder in coders_of(vae):
            try:
                attach(coder, config)
            except ValueError as error:
                raise ArgumentError(f"this AutoencoderKLHunyuanVideo cannot be accelerated: {error}") from None
    for module in swapped_modules(transformer, vae):
        if type(module) in OURS:
            change_class(module, OURS[type(module)])
    return pipe


def restore(pipe: Pipe) -> Pipe:
    """Undoes `accelerate`, in place; returns the pipeline. Nothing happens to one that is as it came."""
    transformer, vae = parts_of(pipe)
    for module in swapped_modules(transformer, vae):
        if type(module) in THEIRS:
            change_class(module, THEIRS[type(module)])
            detach(module)
    return pipe


def parts_of(pipe: Any) -> tuple[Any, Any]:
    """Transformer and VAE (or None) of a diffusers pipeline, out of what torch.compile put around them.

    ArgumentError, one line, for a pipeline of other models.
    """
    names = type(pipe).__name__, type(getattr(pipe, "transformer", None)).__name__
    transformer, vae = (uncompiled(getattr(pipe, name, None)) for name in ("transformer", "vae"))
    if type(transformer) not in TRANSFORMERS:
        raise ArgumentError(
            f"{names[0]} has a transformer of class {names[1]}; accelerate takes diffusers pipelines with a "
            f"{' or a '.join(kind.__name__ for kind in TRANSFORMERS)}"
        )
    if vae is not None and type(vae) is not AutoencoderKLHunyuanVideo:
        raise ArgumentError(
            f"{names[0]} has a vae of class {type(vae).__name__}; accelerate takes an AutoencoderKLHunyuanVideo"
        )
    return transformer, vae


def uncompiled(module: Any) -> Any:
    """The module in a result of torch.compile; others themselves."""
    return getattr(module, "_orig_mod", module)


def vae_config(vae: Any) -> VAEConfig:
    """Our config of diffusers' VAE; ArgumentError where it is of another kind."""
    values = {key: value for key, value in vae.config.items() if not key.startswith("_")}
    try:
        return VAEConfig.from_dict(values)
    except (KeyError, TypeError, ValueError) as error:
        raise ArgumentError(f"this AutoencoderKLHunyuanVideo cannot be accelerated: {error}") from None


def coders_of(vae: Any) -> tuple[nn.Module, nn.Module]:
    return vae.encoder, vae.decoder


def swapped_modules(transformer: Any, vae: Any) -> Iterator[nn.Module]:
    """Blocks, encoder and decoder; the latter only where our networks have been made for them."""
    for block in (*transformer.transformer_blocks, *transformer.single_transformer_blocks):
        yield uncompiled(block)
    if vae is not None:
        yield from coders_of(vae)


def change_class(module: nn.Module, kind: type) -> None:
    """Changes a module's class, and every forward of the old class that hooks keep of it."""
    before, after = type(module).forward, MethodType(kind.forward, module)  # type: ignore[attr-defined]
    module.__class__ = kind
    own = vars(module)
    for name in ("forward", "_old_forward"):  # accelerate's hooks
        if is_method(own.get(name), before):
            own[name] = after
    for reference in getattr(own.get("_diffusers_hook"), "_fn_refs", ()):
        for name in ("forward", "original_forward"):
            if is_method(getattr(reference, name), before):
                setattr(reference, name, after)


def is_method(value: Any, function: Any) -> bool:
    return isinstance(value, MethodType) and value.__func__ is function
