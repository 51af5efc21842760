"""`from_pretrained` and `save_pretrained` of the models."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from typing_extensions import Self

Model = TypeVar("Model", bound="Pretrained")


class Pretrained(nn.Module):
    """Base of the models that have checkpoints; they are constructed from their config and keep it as `.config`.

    The one place where models reach for files: it imports `hunyuan_video.checkpoints` when called.
    """

    component: ClassVar[Literal["transformer", "vae"]]
    config: Any

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        load_key: Literal["module", "ema"] | None = None,
        quantize: Literal["fp8", "int8"] | None = None,
    ) -> Self:
        """The model in evaluation mode from a checkpoint file, its folder, or the root of a pipeline.

        Layouts (told apart by their keys): official `.pt`, diffusers folders (also sharded), single safetensors files
        with official, diffusers or ComfyUI names. Without a config.json the sizes follow from the tensor shapes.
        dtype: of the weights, default the prevailing one of the file; FP8 weights stay FP8. device: default the CPU.
        load_key: state dict of an official `.pt` file to take, default "module", else "ema". quantize="fp8" or "int8":
        the weights of all blocks get one byte, and a scale per output channel, while they are read. Memory: the model,
        no second copy.
        Raises UserError, one line naming file and key, where the checkpoint is damaged or does not fit.
        """
        from hunyuan_video.checkpoints import load_model

        return load_model(cls, cls.component, path, dtype=dtype, device=device, load_key=load_key, quantize=quantize)

    def save_pretrained(
        self,
        path: str | Path,
        layout: Literal["diffusers", "official"] = "diffusers",
        *,
        max_shard_size: int = 10_000_000_000,
    ) -> Path:
        """Writes weights and config.json, complete or not at all; an earlier checkpoint at `path` is replaced.

        layout "diffusers": a folder that diffusers' own class loads, in safetensors shards of at most `max_shard_size`
        bytes. "official": a folder with the released file names. A path ending in .safetensors makes a single file with
        the layout's names. Raises UserError where `path` cannot be written or holds other files.
        """
        from hunyuan_video.checkpoints import save_model

        return save_model(self, self.config, self.component, path, layout, max_shard_size)


class SkipInit(TorchFunctionMode):
    """Leaves new parameters as they are. On the meta device there is nothing to fill, and `normal_` would import
    torch._dynamo for it: a second of start-up."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)
