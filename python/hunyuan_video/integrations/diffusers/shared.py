"""One set of weights for both libraries' pipelines: `from_diffusers` and `to_diffusers`.

Our transformer has fused layers, of which diffusers' are rows. From diffusers' side each group becomes one tensor, one
group at a time, and diffusers' parameters become views of its rows, in place: the same Parameter objects, the same
values, one copy of the weights. The one exception is the modulation of the last layer, whose halves stand in the other
order (2 D x D of 13 billion weights): it is copied. Moving either model to another device or dtype ends the sharing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import diffusers
import torch
from torch import Tensor, nn

from hunyuan_video.checkpoints.keys import diffusers_to_official, official_to_diffusers
from hunyuan_video.checkpoints.sources import Piece, StateSource
from hunyuan_video.errors import ArgumentError, UserError
from hunyuan_video.integrations.diffusers.names import schedule_arguments
from hunyuan_video.integrations.diffusers.swap import parts_of, vae_config
from hunyuan_video.models import CausalVAE, ClipTextEncoder, HunyuanVideoTransformer, TextEncoder, TransformerConfig
from hunyuan_video.models.lora import LoRALinear
from hunyuan_video.models.plain import why_not_plain
from hunyuan_video.models.pretrained import SkipInit
from hunyuan_video.models.text.foreign import ForeignLanguageModel, ForeignPooledModel
from hunyuan_video.models.text.tokens import TransformersTokenizer
from hunyuan_video.sampling import HunyuanVideoPipeline
from hunyuan_video.sampling.request import SamplingDefaults

HOLDERS = (nn.Linear, nn.Conv3d, nn.LayerNorm, nn.GroupNorm, diffusers.models.normalization.RMSNorm)


def from_diffusers(pipe: Any, **defaults: Any) -> HunyuanVideoPipeline:
    """Our pipeline over the weights of a diffusers pipeline: text to video, or token replacement (image to video).

    The transformer's fused layers are made one at a time, and pipe's parameters become views of them: nothing is held
    twice, and a change in one pipeline is seen in the other. Text encoders and tokenizers are pipe's own. defaults:
    values for `SamplingDefaults`; flow_shift and solver are those of pipe's scheduler.
    Raises ArgumentError, one line, where something is not plain weights (LoRA, quantized, offloaded), for models of
    another kind and for schedulers that we have not; nothing is changed then.
    """
    theirs, their_vae = parts_of(pipe)
    arguments = schedule_arguments(pipe.scheduler) if getattr(pipe, "scheduler", None) is not None else {}
    for name, part in (("transformer", theirs), ("vae", their_vae)):
        if part is not None:
            _check_plain(name, part)
    try:
        config = TransformerConfig.from_dict({k: v for k, v in theirs.config.items() if not k.startswith("_")})
    except (KeyError, TypeError, ValueError) as error:
        raise ArgumentError(f"{type(theirs).__name__} cannot be sampled by this package: {error}") from None
    vae = None if their_vae is None else _shared_vae(CausalVAE, vae_config(their_vae), their_vae)
    return HunyuanVideoPipeline(
        _fused(config, theirs), vae, _text_encoder(pipe), _clip_encoder(pipe),
        defaults=SamplingDefaults(**{**arguments, **defaults}),
    )  # fmt: skip


def to_diffusers(pipe: HunyuanVideoPipeline, **parts: Any) -> Any:
    """A diffusers HunyuanVideoPipeline over the weights of ours; parts: its text encoders and tokenizers, if wanted.

    Without them its calls take prompt_embeds, prompt_attention_mask and pooled_prompt_embeds. The scheduler is
    FlowMatchEulerDiscreteScheduler with our default shift. Raises ArgumentError, one line, for FP8 or int8 weights,
    adapters beside the weights, and weights that stay in their files.
    """
    ours = pipe.transformer
    if pipe.vae is None:
        raise ArgumentError("this pipeline has no vae, without which diffusers makes none")
    _check_plain("transformer", ours)
    _check_plain("vae", pipe.vae)
    with torch.device("meta"), SkipInit():
        theirs = diffusers.HunyuanVideoTransformer3DModel.from_config(ours.config.to_dict("diffusers"))
        vae = diffusers.AutoencoderKLHunyuanVideo.from_config(pipe.vae.config.to_dict("diffusers"))
    state = dict(ours.named_parameters())
    for name, pieces in official_to_diffusers(StateSource(state).infos).items():
        _place(theirs, name, _rows(state, pieces), state[pieces[0].key].requires_grad)
    for name, weight in pipe.vae.named_parameters():
        _place(vae, name, weight.detach(), weight.requires_grad)
    for part in (theirs, vae):
        _check_whole(part)
    shift = pipe.defaults.flow_shift or 7.0
    empty = dict.fromkeys(("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
    return diffusers.HunyuanVideoPipeline(
        transformer=theirs.eval(), vae=vae.eval(), scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=shift),
        **{**empty, **parts},
    )  # fmt: skip


def _check_plain(part: str, model: nn.Module) -> None:
    """ArgumentError unless all weights of a model are plain tensors that are there."""
    for name, module in model.named_modules():
        if reason := _why_not_shared(module):
            raise ArgumentError(
                f"weights are shared where they are plain, but {part}.{name} {reason}; fuse or unload LoRA, remove "
                "offloading and hooks, and load without quantization"
            )


def _why_not_shared(module: nn.Module) -> str:
    """Reason why a module's own weights cannot be shared; "" where they can."""
    if "base_layer" in module._modules or isinstance(module, LoRALinear):
        return f"is a {type(module).__name__} with adapters"
    weights = [weight for weight in module._parameters.values() if weight is not None]
    if not weights:
        return ""
    ours = type(module).__module__.partition(".")[0] == "hunyuan_video"
    if reason := why_not_plain(module, *((type(module),) if ours else HOLDERS)):
        return reason
    if any(weight.is_meta for weight in weights):
        return "has its weights elsewhere (offloaded, or streamed from files)"
    return "has weights of one byte" if any(weight.dtype.itemsize == 1 for weight in weights) else ""


def _fused(config: TransformerConfig, theirs: nn.Module) -> HunyuanVideoTransformer:
    with torch.device("meta"), SkipInit():
        ours = HunyuanVideoTransformer(config)
    state = dict(theirs.named_parameters())
    pieces = diffusers_to_official(StateSource(state).infos)
    if missing := sorted(set(dict(ours.named_parameters())) ^ set(pieces)):
        raise ArgumentError(f"{type(theirs).__name__} has not the weights of this package's model: {missing[0]}")
    for name, parts in pieces.items():
        first = state[parts[0].key]
        _place(ours, name, _stacked(state, parts), first.requires_grad)
    return ours.train(theirs.training)


def _stacked(state: Mapping[str, nn.Parameter], parts: tuple[Piece, ...]) -> Tensor:
    """One tensor of several, which become its rows; of a single one itself, and a copy where rows change places."""
    tensors = [state[part.key] for part in parts]
    if len(parts) == 1:
        return tensors[0].detach()
    if any(part.rows for part in parts):
        return _rows(state, parts)
    whole = _already_one(tensors)
    if whole is None:
        whole = torch.cat([tensor.detach() for tensor in tensors])
        begin = 0
        for tensor in tensors:
            tensor.data = whole[begin : begin + len(tensor)]
            begin += len(tensor)
    return whole


def _already_one(tensors: list[nn.Parameter]) -> Tensor | None:
    """The tensor of which these are the rows, one after the other, if they are."""
    first = tensors[0].detach()
    place = first.storage_offset()
    for tensor in tensors:
        other = tensor.detach()
        same = other.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
        if not (same and other.is_contiguous() and other.storage_offset() == place):
            return None
        place += other.numel()
    shape = (sum(len(tensor) for tensor in tensors), *first.shape[1:])
    return first.as_strided(shape, first.stride(), first.storage_offset())


def _rows(state: Mapping[str, nn.Parameter], pieces: tuple[Piece, ...]) -> Tensor:
    """The rows of pieces: a view of one, a copy of several."""
    cut = [state[p.key].detach() if p.rows is None else state[p.key].detach()[p.rows[0] : p.rows[1]] for p in pieces]
    return cut[0] if len(cut) == 1 else torch.cat(cut)


def _place(model: nn.Module, name: str, tensor: Tensor, gradient: bool) -> None:
    """Puts a tensor in the place of a parameter on the meta device."""
    path, _, leaf = name.rpartition(".")
    module = model.get_submodule(path)
    wanted = module._parameters[leaf]
    if wanted is None or wanted.shape != tensor.shape:
        raise UserError(f"{name} has shape {list(tensor.shape)}, which is not the model's; the config is of another")
    module._parameters[leaf] = nn.Parameter(tensor, requires_grad=gradient)


def _check_whole(model: nn.Module) -> None:
    for name, weight in model.named_parameters():
        if weight.is_meta:
            raise ArgumentError(f"{type(model).__name__} has a weight {name} that this package's model has not")


def _shared_vae(kind: type[CausalVAE], config: Any, theirs: nn.Module) -> CausalVAE:
    with torch.device("meta"), SkipInit():
        vae = kind(config)
    for name, weight in theirs.named_parameters():
        _place(vae, name, weight.detach(), weight.requires_grad)
    _check_whole(vae)
    return vae.train(theirs.training)


def _text_encoder(pipe: Any) -> TextEncoder | None:
    model, tokenizer = getattr(pipe, "text_encoder", None), getattr(pipe, "tokenizer", None)
    if model is None or tokenizer is None:
        return None
    return TextEncoder(ForeignLanguageModel(model), TransformersTokenizer(tokenizer))


def _clip_encoder(pipe: Any) -> ClipTextEncoder | None:
    model, tokenizer = getattr(pipe, "text_encoder_2", None), getattr(pipe, "tokenizer_2", None)
    if model is None or tokenizer is None:
        return None
    length = min(77, model.config.max_position_embeddings)
    return ClipTextEncoder(ForeignPooledModel(model), TransformersTokenizer(tokenizer), max_length=length)
