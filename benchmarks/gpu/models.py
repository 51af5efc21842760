"""Models of the GPU table beside diffusers' own with the same weights: one block of each kind, a whole step, the VAE.

Weights are random and drawn on the device. diffusers' model is made of views of ours, so a peak of memory counts them
once for either.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.machine import Ceilings
from benchmarks.results import ABSENT, Peer, Report, Row, failure, peer_of
from benchmarks.results import PEER as DIFFUSERS
from benchmarks.timing import gpu_times
from hunyuan_video.checkpoints.configs import config_to_dict
from hunyuan_video.checkpoints.keys import official_to_diffusers
from hunyuan_video.checkpoints.safetensors_file import TensorInfo
from hunyuan_video.models import CausalVAE, HunyuanVideoTransformer, TransformerConfig, VAEConfig
from hunyuan_video.models.fp8 import convert_to_fp8_modules

CLIP, SHORT = (33, 90, 160), (5, 90, 160)  # latent [T, h, w] of 720 x 1280: 129 and 17 frames
TILES = (2, 34, 34)  # a clip of several tiles, which a dry run decodes in place of hundreds
TEXT = 256
RELEASED = TransformerConfig()
DOUBLE = replace(RELEASED, double_blocks=1, single_blocks=0)
SINGLE = replace(RELEASED, double_blocks=0, single_blocks=1)


@dataclass(frozen=True)
class ModelCase:
    """One line; `measure` as that of table.Entry."""

    op: str
    shape: str
    seconds: float
    measure: Callable[[str, Ceilings | None, Report], Row]


def model_cases(quick: bool) -> Iterator[ModelCase]:
    short = f"{'x'.join(map(str, SHORT))} latent"
    clip = f"{'x'.join(map(str, CLIP))} latent"
    latent = SHORT if quick else CLIP
    shape = short if quick else clip
    yield ModelCase("double_block", shape, 6, _transformer("double_block", DOUBLE, latent))
    yield ModelCase("single_block", shape, 6, _transformer("single_block", SINGLE, latent))
    yield ModelCase("vae_decode", "17x256x256 tile", 6, _vae((5, 32, 32), "plain"))
    if not quick:
        yield ModelCase("step_13b", clip, 90, _transformer("step_13b", RELEASED, CLIP, peer_speed=2.0))
        yield ModelCase("vae_decode", "129x720x1280 clip, exact", 70, _vae(CLIP, "exact"))


def _transformer(op: str, config: TransformerConfig, latent: tuple[int, int, int], peer_speed: float | None = None):
    """A forward of the model: ours in bf16, diffusers' with the same weights, ours with FP8 layers and attention."""

    @torch.no_grad()
    def measure(device: str, ceilings: Ceilings | None, report: Report) -> Row:
        row = Row(op, "x".join(map(str, latent)) + " latent", "bfloat16", "cuda", peer_gate=peer_speed)
        model = random_transformer(config if ceilings else shortened(config), device)
        inputs, small = (transformer_inputs(config, size, device) for size in (latent, (1, 8, 8)))
        time_it = dry_run if ceilings is None else timed
        row.take(time_it(our_forward(model), inputs, small))
        report(row)
        row.peers[DIFFUSERS] = guarded(lambda: time_it(diffusers_forward(model), inputs, small))
        row.peers["hunyuan-ext fp8"] = guarded(lambda: time_it(fp8_forward(model), inputs, small))
        return row

    return measure


def _vae(latent: tuple[int, int, int], mode: Any):
    """Decoding of latents: ours channels-last; diffusers' in its usual layout, tiled unless it is one tile."""

    @torch.no_grad()
    def measure(device: str, ceilings: Ceilings | None, report: Report) -> Row:
        tile = mode == "plain"
        row = Row("vae_decode", "17x256x256 tile" if tile else f"129x720x1280 clip, {mode}", "bfloat16", "cuda")
        vae = randomize(on_device(lambda: CausalVAE(VAEConfig()), device))
        size = latent if ceilings or tile else TILES
        inputs, small = (torch.randn(1, 16, *shape, device=device).bfloat16() for shape in (size, (2, 8, 8)))
        time_it = dry_run if ceilings is None else timed
        channels_last(vae)
        options = {} if tile else dict(memory_budget=most_memory(device))
        row.take(guarded(lambda: time_it(lambda x: vae.decode(x, mode=mode, **options), inputs, small)))
        report(row)
        row.peers[DIFFUSERS] = guarded(lambda: time_it(diffusers_decode(vae, tile), inputs, small))
        return row

    return measure


# ---- models ----------------------------------------------------------------------------------------------------------


def on_device(make: Callable[[], nn.Module], device: str) -> nn.Module:
    """A module in bfloat16, made on the device: filling 13B weights on a CPU would take minutes."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            return make().eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(before)


def randomize(module: nn.Module) -> nn.Module:
    """Normal weights that keep activations near 1, norms near the identity."""
    for name, parameter in module.named_parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.5 * parameter[0].numel() ** -0.5)
        else:
            nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 1.0)
    return module


def channels_last(module: nn.Module) -> None:
    """Weights of convolutions as the kernels read them; fake tensors know no Module.to(memory_format=...)."""
    for part in module.modules():
        if isinstance(part, nn.Conv3d):
            weight = part.weight.contiguous(memory_format=torch.channels_last_3d)
            part.weight = nn.Parameter(weight, requires_grad=False)


def most_memory(device: str) -> int | None:
    """Three quarters of what a GPU has free: the default, 4 GB, would move 120 GB of activations to the host."""
    return None if device == "cpu" else torch.cuda.mem_get_info()[0] // 4 * 3


def random_transformer(config: TransformerConfig, device: str) -> HunyuanVideoTransformer:
    return randomize(on_device(lambda: HunyuanVideoTransformer(config), device))  # type: ignore[return-value]


def transformer_inputs(config: TransformerConfig, latent: tuple[int, int, int], device: str) -> dict[str, Tensor]:
    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, device=device).bfloat16()

    return dict(
        latents=noise(1, config.in_channels, *latent),
        timestep=torch.full((1,), 500.0, device=device),
        text=noise(1, TEXT, config.text_dim),
        text_mask=torch.ones(1, TEXT, dtype=torch.bool, device=device),
        pooled_text=noise(1, config.pooled_text_dim),
        guidance=torch.full((1,), 6000.0, device=device),
    )


def our_forward(model: nn.Module) -> Callable[[dict[str, Tensor]], Tensor]:
    """All of the text is valid, so no mask is needed; diffusers' model insists on one."""
    return lambda x: model(**{name: value for name, value in x.items() if name != "text_mask"})


def diffusers_forward(model: HunyuanVideoTransformer) -> Callable[[dict[str, Tensor]], Tensor]:
    from diffusers import HunyuanVideoTransformer3DModel

    with torch.device("meta"):
        peer = HunyuanVideoTransformer3DModel.from_config(config_to_dict("transformer", model.config, "diffusers"))
    peer.load_state_dict(diffusers_weights(model), assign=True)
    names = dict(
        hidden_states="latents",
        timestep="timestep",
        encoder_hidden_states="text",
        encoder_attention_mask="text_mask",
        pooled_projections="pooled_text",
        guidance="guidance",
    )
    peer.eval()
    return lambda x: peer(**{theirs: x[ours] for theirs, ours in names.items()}, return_dict=False)[0]


def diffusers_weights(model: nn.Module) -> dict[str, Tensor]:
    """The weights under diffusers' names, as views where it splits what is fused here."""
    ours = model.state_dict()
    pieces = official_to_diffusers({name: TensorInfo(tuple(x.shape), x.dtype) for name, x in ours.items()})

    def part(piece: Any) -> Tensor:
        return ours[piece.key] if piece.rows is None else ours[piece.key][slice(*piece.rows)]

    return {
        name: part(parts[0]) if len(parts) == 1 else torch.cat([part(piece) for piece in parts])
        for name, parts in pieces.items()
    }


def fp8_forward(model: HunyuanVideoTransformer) -> Callable[[dict[str, Tensor]], Tensor]:
    """Quantizes the model in place, so it comes last; the attention stays bf16 where no kernel has FP8."""
    convert_to_fp8_modules(model)
    if next(model.parameters()).is_cuda and torch.cuda.get_device_capability() == (9, 0):
        model.set_attention_precision("fp8")
    return our_forward(model)


def diffusers_decode(vae: nn.Module, tile: bool) -> Callable[[Tensor], Tensor]:
    from diffusers import AutoencoderKLHunyuanVideo

    with torch.device("meta"):
        peer = AutoencoderKLHunyuanVideo.from_config(vae.config.to_dict("diffusers"))  # type: ignore[operator, union-attr]
    peer.load_state_dict({name: value.contiguous() for name, value in vae.state_dict().items()}, assign=True)
    peer.eval()
    if not tile:
        peer.enable_tiling()
    return lambda x: peer.decode(x, return_dict=False)[0]


# ---- measuring -------------------------------------------------------------------------------------------------------


def timed(forward: Callable[[Any], Tensor], inputs: Any, small: Any) -> Peer:
    """Time and peak memory of a forward, after one at a small size."""
    forward(small)
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    taken = peer_of(gpu_times(lambda: forward(inputs)))
    taken.memory_gb = torch.cuda.max_memory_allocated() / 1e9
    return taken


def dry_run(forward: Callable[[Any], Tensor], inputs: Any, small: Any) -> Peer:
    """The same call without a clock, for fake tensors."""
    forward(inputs)
    return Peer()


def shortened(config: TransformerConfig) -> TransformerConfig:
    """For a dry run: one block of each kind is walked like twenty."""
    double, single = min(config.double_blocks, 1), min(config.single_blocks, 1)
    return replace(config, double_blocks=double, single_blocks=single)


def guarded(measure: Callable[[], Peer]) -> Peer:
    try:
        return measure()
    except ModuleNotFoundError as error:
        return Peer(note=ABSENT) if error.name == DIFFUSERS else failure(error)
    except Exception as error:
        return failure(error)
