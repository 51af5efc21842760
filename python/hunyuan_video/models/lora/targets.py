"""Linears that get an adapter: by regular expressions for their whole paths."""

from __future__ import annotations

import re
from collections.abc import Iterable

from torch import nn

from hunyuan_video.models.int8 import QuantizedLinear
from hunyuan_video.models.lora.layers import LoRALinear

# Attention, MLP and modulation projections of the video and of the joint stream: what follows the timestep.
TARGETS = (
    r"double_blocks\.\d+\.img_(mod\.linear|attn_qkv|attn_proj|mlp\.fc[12])",
    r"single_blocks\.\d+\.(modulation\.linear|linear[12])",
    r"final_layer\.(adaLN_modulation\.1|linear)",
)
# Attention and MLP projections of both streams: what follows the prompt, too.
STREAM_TARGETS = (
    r"double_blocks\.\d+\.(img|txt)_(attn_qkv|attn_proj|mlp\.fc[12])",
    r"single_blocks\.\d+\.linear[12]",
)


def target_linears(model: nn.Module, targets: Iterable[str] = TARGETS) -> list[str]:
    """Paths of the linears whose whole path matches one of the regular expressions.

    Raises ValueError on none, and on what is no expression.
    """
    try:
        patterns = [re.compile(target) for target in targets]
    except re.error as error:
        raise ValueError(f"target {error.pattern!r} is no regular expression: {error}") from None
    paths = [
        path
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear | QuantizedLinear | LoRALinear)
        and any(pattern.fullmatch(path) for pattern in patterns)
    ]
    if not paths:
        raise ValueError(f"no linear of the model matches the targets {[p.pattern for p in patterns]}")
    return paths
