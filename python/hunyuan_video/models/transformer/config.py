"""The transformer's sizes, under our names and under those of diffusers' config.json."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from hunyuan_video.rules import check_field_types

IMAGE_CONDITIONS = ("", "token_replace")


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """Sizes of a `HunyuanVideoTransformer`; the defaults are the released 13B guidance-distilled model (paper table 2).

    hidden_size: width, a multiple of num_heads. mlp_ratio: MLP width / hidden_size of the blocks (the refiner's is 4).
    patch_size: (frames, rows, columns) of latent per token. rope_dims: head dimensions that turn with (t, y, x), each
    even, summing to the head dimension. guidance_embed: the model was distilled to take the guidance scale as an input.
    qkv_bias: biases of the double blocks' qkv and output projections (all other projections have one).
    image_condition: "token_replace": the first latent frame is a given image, clean, and its tokens are modulated as at
    timestep 0 (image-to-video, paper section 7.2); "": text-to-video. The weights are the same in number and shape.
    Raises ValueError where the sizes contradict each other.
    """

    hidden_size: int = 3072
    num_heads: int = 24
    double_blocks: int = 20
    single_blocks: int = 40
    mlp_ratio: float = 4
    in_channels: int = 16
    out_channels: int = 16
    patch_size: tuple[int, int, int] = (1, 2, 2)
    rope_dims: tuple[int, int, int] = (16, 56, 56)
    rope_theta: float = 256.0
    text_dim: int = 4096
    pooled_text_dim: int = 768
    guidance_embed: bool = True
    qkv_bias: bool = True
    refiner_depth: int = 2
    image_condition: str = ""

    def __post_init__(self) -> None:
        for name in ("patch_size", "rope_dims"):  # JSON and YAML hand us lists
            object.__setattr__(self, name, tuple(getattr(self, name)))
            if len(getattr(self, name)) != 3:
                raise ValueError(f"{name} has 3 entries (frames, rows, columns), got {getattr(self, name)}")
        check_field_types(self)
        positive = ("hidden_size", "num_heads", "mlp_ratio", "in_channels", "out_channels", "rope_theta", "text_dim")
        for name in (*positive, "pooled_text_dim"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.image_condition not in IMAGE_CONDITIONS:
            raise ValueError(f"image_condition must be one of {IMAGE_CONDITIONS}, got {self.image_condition!r}")
        if self.image_condition and self.patch_size[0] != 1:
            raise ValueError(f"image_condition needs patches of one latent frame, got patch_size {self.patch_size}")
        for name in ("double_blocks", "single_blocks", "refiner_depth"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if min(self.patch_size) < 1:
            raise ValueError(f"patch_size entries must be positive, got {self.patch_size}")
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size {self.hidden_size} does not divide into num_heads {self.num_heads}")
        if sum(self.rope_dims) != self.head_dim:
            raise ValueError(
                f"rope_dims {self.rope_dims} sum to {sum(self.rope_dims)}, not the head dim {self.head_dim}"
            )
        if any(dim < 0 or dim % 2 for dim in self.rope_dims):
            raise ValueError(f"rope_dims turn in pairs and must be even, got {self.rope_dims}")

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_heads

    @property
    def mlp_width(self) -> int:
        """Hidden width of the blocks' MLP."""
        return int(self.hidden_size * self.mlp_ratio)

    @property
    def patch_volume(self) -> int:
        """Latent positions in a token."""
        return math.prod(self.patch_size)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TransformerConfig:
        """From our own field names or from a diffusers HunyuanVideoTransformer3DModel config.json.

        Raises ValueError on an unknown name, or on a diffusers option this model does not have.
        """
        if "num_attention_heads" in values:
            values = _from_diffusers(values)
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(f"unknown transformer config entries {unknown}; known are {sorted(known)}")
        return cls(**values)

    def to_dict(self, layout: str = "diffusers") -> dict[str, Any]:
        """JSON-ready dict; layout "diffusers" uses that library's names, "native" the names of this class."""
        if layout == "native":
            return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}
        if layout != "diffusers":
            raise ValueError(f"layout is 'diffusers' or 'native', got {layout!r}")
        _, patch, width = self.patch_size
        if patch != width:
            raise ValueError(f"diffusers has square patches only, got patch_size {self.patch_size}")
        if not self.qkv_bias:
            raise ValueError("diffusers has no transformer without qkv_bias; save with layout='official'")
        same = {theirs: getattr(self, ours) for theirs, ours in _DIFFUSERS_NAMES.items()}
        return {
            "_class_name": "HunyuanVideoTransformer3DModel",
            **same,
            "attention_head_dim": self.head_dim,
            "patch_size": patch,
            "patch_size_t": self.patch_size[0],
            "rope_axes_dim": list(self.rope_dims),
            "qk_norm": "rms_norm",
            **({"image_condition_type": self.image_condition} if self.image_condition else {}),
        }


_DIFFUSERS_NAMES = {
    "in_channels": "in_channels",
    "out_channels": "out_channels",
    "num_attention_heads": "num_heads",
    "num_layers": "double_blocks",
    "num_single_layers": "single_blocks",
    "num_refiner_layers": "refiner_depth",
    "mlp_ratio": "mlp_ratio",
    "guidance_embeds": "guidance_embed",
    "text_embed_dim": "text_dim",
    "pooled_projection_dim": "pooled_text_dim",
    "rope_theta": "rope_theta",
}


def _from_diffusers(values: Mapping[str, Any]) -> dict[str, Any]:
    values = {k: v for k, v in values.items() if not k.startswith("_")}
    if (norm := values.pop("qk_norm", "rms_norm")) != "rms_norm":
        raise ValueError(f"config entry qk_norm must be 'rms_norm', got {norm!r}: this is no HunyuanVideo transformer")
    condition = values.pop("image_condition_type", None) or ""
    if condition not in IMAGE_CONDITIONS:
        raise ValueError(f"config entry image_condition_type must be None or 'token_replace', got {condition!r}")
    out: dict[str, Any] = {"image_condition": condition}
    out |= {ours: values.pop(theirs) for theirs, ours in _DIFFUSERS_NAMES.items() if theirs in values}
    if "attention_head_dim" in values:
        out["hidden_size"] = out["num_heads"] * values.pop("attention_head_dim")
    if "patch_size" in values:
        patch = values.pop("patch_size")
        out["patch_size"] = (values.pop("patch_size_t", 1), patch, patch)
    if "rope_axes_dim" in values:
        out["rope_dims"] = values.pop("rope_axes_dim")
    return {**out, **values}


"""The released weights ("13b-cfgdistill") and the same network without the guidance input ("13b")."""
