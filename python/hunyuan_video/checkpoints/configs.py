"""Model configurations: from config.json, into config.json, and from the shapes of the tensors where there is none."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hunyuan_video.checkpoints.layout import COMPONENTS, CONFIG, part_folders
from hunyuan_video.checkpoints.names import Component, Layout
from hunyuan_video.errors import UserError
from hunyuan_video.files import read_optional_json
from hunyuan_video.models.grid import Grid
from hunyuan_video.models.transformer.config import TransformerConfig
from hunyuan_video.models.vae.config import VAEConfig

if TYPE_CHECKING:
    from hunyuan_video.checkpoints.safetensors_file import TensorInfo

Config = TransformerConfig | VAEConfig
CLASS_NAMES: dict[Component, dict[Layout, str]] = {
    "transformer": {"official": "HYVideoDiffusionTransformer", "diffusers": "HunyuanVideoTransformer3DModel"},
    "vae": {"official": "AutoencoderKLCausal3D", "diffusers": "AutoencoderKLHunyuanVideo"},
}


def parse_config(component: Component, values: Mapping[str, Any], where: str) -> Config:
    """A config from the content of a config.json of either layout. UserError naming `where` if it does not fit."""
    name = values.get("_class_name")
    if name is not None and name not in CLASS_NAMES[component].values():
        raise UserError(f"{where} describes a {name}, expected a {CLASS_NAMES[component]['diffusers']}")
    try:
        if component == "vae":
            return VAEConfig.from_dict(values)
        return TransformerConfig.from_dict({key: value for key, value in values.items() if not key.startswith("_")})
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{where}: {error}") from error


def config_to_dict(component: Component, config: Config, layout: Layout) -> dict[str, Any]:
    """Content of config.json. The official transformer has none: ours lists the config's fields."""
    if isinstance(config, VAEConfig):
        return config.to_dict(layout)
    values = config.to_dict("diffusers" if layout == "diffusers" else "native")
    return {"_class_name": CLASS_NAMES[component][layout], **values}


def read_grid(folder: Path) -> Grid:
    """Pixels per latent and token from the configs alone; the released model's where a folder has none.

    UserError for a model that cannot be sampled: one that takes more channels than it makes.
    """
    return Grid.of(*read_configs(folder))


def read_configs(folder: Path) -> tuple[VAEConfig | None, TransformerConfig | None]:
    """Configs of a pipeline's VAE and transformer, None for one that a folder has not got; UserError as `read_grid`."""
    folders = part_folders(folder)
    vae = transformer = None
    for component in COMPONENTS:
        path = folders[component] / CONFIG
        values = read_optional_json(path, "restore the file")
        config = parse_config(component, values, str(path)) if values else None
        if isinstance(config, VAEConfig):
            vae = config
        elif isinstance(config, TransformerConfig):
            check_channels(config, str(path))
            transformer = config
    return vae, transformer


def check_channels(config: TransformerConfig, where: str) -> None:
    """UserError for image-to-video by concatenation: an image's latents and a mask beside those of the video."""
    if config.in_channels != config.out_channels:
        raise UserError(
            f"{where}: the transformer takes {config.in_channels} channels and makes {config.out_channels}: it is an "
            "image-to-video model by concatenation (the image's latents, and a mask, beside the video's), which cannot "
            "be sampled here; use a text-to-video model or one with token replacement"
        )


def infer_config(component: Component, infos: Mapping[str, TensorInfo], where: str) -> Config:
    """The config that the shapes of a complete official state dict imply. UserError if a needed tensor is missing."""
    shapes = {name: info.shape for name, info in infos.items()}
    try:
        return _infer_transformer(shapes) if component == "transformer" else _infer_vae(shapes)
    except KeyError as error:
        raise UserError(f"{where}: key {error} is missing; the file is incomplete or of another model") from error
    except (ValueError, IndexError, ZeroDivisionError) as error:
        raise UserError(f"{where}: the tensor shapes fit no HunyuanVideo {component} ({error})") from error


def _infer_transformer(shapes: Mapping[str, tuple[int, ...]]) -> TransformerConfig:
    """rope_dims and rope_theta leave no trace in the shapes: the released model's, or its proportions 1 : 3.5 : 3.5."""
    hidden, in_channels, frames, rows, columns = shapes["img_in.proj.weight"]
    double, single = _count(shapes, "double_blocks"), _count(shapes, "single_blocks")
    head_dim = shapes["double_blocks.0.img_attn_q_norm.weight" if double else "single_blocks.0.q_norm.weight"][0]
    if double:
        mlp_width = shapes["double_blocks.0.img_mlp.fc1.weight"][0]
    else:
        mlp_width = shapes["single_blocks.0.linear1.weight"][0] - 3 * hidden
    side = 2 * (head_dim * 7 // 32)
    return TransformerConfig(
        hidden_size=hidden,
        num_heads=hidden // head_dim,
        double_blocks=double,
        single_blocks=single,
        mlp_ratio=_ratio(mlp_width, hidden),
        in_channels=in_channels,
        out_channels=shapes["final_layer.linear.weight"][0] // (frames * rows * columns),
        patch_size=(frames, rows, columns),
        rope_dims=(head_dim - 2 * side, side, side),
        text_dim=shapes["txt_in.input_embedder.weight"][1],
        pooled_text_dim=shapes["vector_in.in_layer.weight"][1],
        guidance_embed="guidance_in.mlp.0.weight" in shapes,
        qkv_bias="double_blocks.0.img_attn_qkv.bias" in shapes or not double,
        refiner_depth=_count(shapes, "txt_in.individual_token_refiner.blocks"),
    )


def _infer_vae(shapes: Mapping[str, tuple[int, ...]]) -> VAEConfig:
    """Strides, groups and scaling leave no trace in the shapes: as released, with fewer groups if 32 do not divide."""
    levels = _count(shapes, "encoder.down_blocks")
    widths = tuple(shapes[f"encoder.down_blocks.{i}.resnets.0.conv1.conv.weight"][0] for i in range(levels))
    return VAEConfig(
        in_channels=shapes["encoder.conv_in.conv.weight"][1],
        out_channels=shapes["decoder.conv_out.conv.weight"][0],
        latent_channels=shapes["post_quant_conv.weight"][0],
        block_out_channels=widths,
        layers_per_block=_count(shapes, "encoder.down_blocks.0.resnets"),
        norm_groups=math.gcd(32, *widths),
        temporal_compression=min(4, 2 ** (levels - 1)),
        spatial_compression=min(8, 2 ** (levels - 1)),
        mid_attention="encoder.mid_block.attentions.0.to_q.weight" in shapes,
    )


def _count(shapes: Mapping[str, Any], prefix: str) -> int:
    """Length of the module list `prefix`."""
    pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.")
    return 1 + max((int(match[1]) for match in map(pattern.match, shapes) if match), default=-1)


def _ratio(mlp_width: int, hidden: int) -> float:
    """The ratio that gives `mlp_width` again when a model computes int(hidden * ratio)."""
    ratio = mlp_width / hidden
    if ratio.is_integer():
        return int(ratio)
    return ratio if int(hidden * ratio) == mlp_width else math.nextafter(ratio, math.inf)
