"""The HunyuanVideo diffusion transformer (paper section 4.2): latents, timestep and text to a velocity."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from hunyuan_ext.core import plain
from hunyuan_video.models.pretrained import Pretrained
from hunyuan_video.models.transformer.blocks import DoubleBlock, FinalLayer, SingleBlock
from hunyuan_video.models.transformer.chunks import TokenChunks
from hunyuan_video.models.transformer.config import TransformerConfig
from hunyuan_video.models.transformer.embeddings import PatchEmbed, TimestepEmbedder, VectorEmbedder, unpatchify
from hunyuan_video.models.transformer.executor import BlockExecutor, Recompute
from hunyuan_video.models.transformer.modulation import Modulation, Modulations, near
from hunyuan_video.models.transformer.refiner import RefinerBlock, TokenRefiner
from hunyuan_video.models.transformer.rope import cached_rope_table, rope_table


class HunyuanVideoTransformer(Pretrained):
    """Dual-stream then single-stream transformer over video and text tokens; attribute names are the released keys.

    `executor`: runs the blocks (executor.py); at first long sequences a part at a time (chunks.py).
    `gradient_checkpointing` (off): recompute each block in the backward pass instead of keeping its activations.
    Works under autograd, autocast(bf16), on the meta device and under torch.compile(fullgraph=True).
    """

    component = "transformer"

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.config = config
        self.executor: BlockExecutor = BlockExecutor((TokenChunks(),))
        width = config.hidden_size
        self.img_in = PatchEmbed(config.patch_size, config.in_channels, width)
        self.txt_in = TokenRefiner(config.text_dim, width, config.num_heads, config.refiner_depth)
        self.time_in = TimestepEmbedder(width)
        self.vector_in = VectorEmbedder(config.pooled_text_dim, width)
        self.guidance_in = TimestepEmbedder(width) if config.guidance_embed else None
        self.double_blocks = nn.ModuleList(DoubleBlock(config) for _ in range(config.double_blocks))
        self.single_blocks = nn.ModuleList(SingleBlock(config) for _ in range(config.single_blocks))
        self.final_layer = FinalLayer(width, config.patch_volume * config.out_channels)
        self.reset_parameters()

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the weights (of those never stored as FP8)."""
        return self.img_in.proj.weight.dtype

    @property
    def gradient_checkpointing(self) -> bool:
        return self.executor.has(Recompute.place)

    @gradient_checkpointing.setter
    def gradient_checkpointing(self, on: bool) -> None:
        self.executor = self.executor.adding(Recompute()) if on else self.executor.without(Recompute.place)

    def set_attention_precision(self, precision: str) -> None:
        """Arithmetic of the blocks' attention: `precision` of `hunyuan_ext.rope_attention`, "auto" at first."""
        for block in (*self.double_blocks, *self.single_blocks):
            block.attention_precision = precision

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Xavier-uniform weights, zero biases; modulations and last projection zero, so blocks start as identity."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv3d):
                nn.init.xavier_uniform_(module.weight.view(module.weight.shape[0], -1))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for linear in self._zero_initialized():
            nn.init.zeros_(linear.weight)

    def _zero_initialized(self):
        for module in self.modules():
            if isinstance(module, Modulation):
                yield module.linear
            elif isinstance(module, RefinerBlock | FinalLayer):
                yield module.adaLN_modulation[1]
        yield self.final_layer.linear

    def forward(
        self,
        latents: Tensor,  # [B, C, T, h, w]
        timestep: Tensor,  # [B], 0..1000
        *,
        text: Tensor,  # [B, L, text_dim]
        text_mask: Tensor | None = None,  # [B, L], nonzero = valid, a prefix of each row; None: all valid
        pooled_text: Tensor,  # [B, pooled_text_dim]
        guidance: Tensor | None = None,  # [B], embedded scale * 1000 (see `guidance_input`)
        modulations: Modulations | None = None,  # one step of `modulations`, for the same condition
    ) -> Tensor:
        """Velocity (noise - data) [B, C_out, T, h, w], in the dtype the weights (or autocast) compute in.

        In an image-to-video model (config.image_condition) the first latent frame is the image's, clean; its velocity
        means nothing. With `modulations`, the weights of `modulation_modules` are not read; timestep still conditions
        the text.
        Floating inputs may have any dtype; they are cast to the weights'. Text beyond the mask never influences the
        result. Raises ValueError on shapes that do not fit the config, and on guidance that is missing or unwanted.
        """
        self._check_inputs(latents, timestep, text, text_mask, pooled_text, guidance)
        text, text_mask = trim_padding(text, text_mask)
        grid = tuple(size // patch for size, patch in zip(latents.shape[2:], self.config.patch_size, strict=True))
        rope = self.rope(grid, latents.device)

        vec = self.condition(timestep, pooled_text, guidance) if modulations is None else None
        img = [self.img_in(latents.to(self.dtype))]  # to be taken out by who works on it: it is large
        txt = self.txt_in(text, timestep, text_mask, self.executor)
        kv_len = None if text_mask is None else img[0].shape[1] + (text_mask != 0).sum(dim=1, dtype=torch.int32)
        image: dict[str, Any] = {}
        if self.config.image_condition:
            first = self.first_condition(timestep, pooled_text) if modulations is None else None
            image = {"first_tokens": grid[1] * grid[2], "first": first}
        x = self.executor.all_blocks(self.run_blocks, img, txt, vec, rope, kv_len, modulations, **image)
        out = self.final_layer(x, vec, None if modulations is None else modulations.final)
        return unpatchify(self.executor.output(out), grid, self.config.patch_size)

    def modulations(
        self,
        timesteps: Tensor,  # [N], 0..1000
        pooled_text: Tensor,  # [B, pooled_text_dim]
        guidance: Tensor | None = None,  # [B], as in a forward
    ) -> Modulations:
        """All vectors that condition the blocks at N timesteps, from one GEMM of N * B rows per layer.

        `forward(..., modulations=table.step(i))` is then the forward at timesteps[i], to rounding: a GEMM of N * B rows
        may add in another order than one of B rows (measured: 1e-6 of the largest value in float32, equal bits in
        bfloat16, whose sums are wide). The same N, B and condition give the same bits. Size: N * B *
        (12 * double + 3 * single + 2) * D values, 2.2 MB a row for the 13B model in bf16.
        """
        vec = self.condition(timesteps[:, None], pooled_text, guidance)  # [N, B, D]
        rows = vec.flatten(0, 1)
        double = tuple(block.modulate(rows) for block in self.double_blocks)  # type: ignore[operator]
        single = tuple(block.modulate(rows) for block in self.single_blocks)  # type: ignore[operator]
        split = vec.shape[:2]
        first: tuple[Tensor, ...] = ()
        if self.config.image_condition:
            first_vec = self.first_condition(timesteps[:1].expand(len(pooled_text)), pooled_text)
            first = tuple(block.img_mod(first_vec) for block in self.double_blocks)  # type: ignore[operator]
            first += tuple(block.modulate(first_vec) for block in self.single_blocks)  # type: ignore[operator]
        return Modulations(
            tuple((video.unflatten(0, split), text.unflatten(0, split)) for video, text in double),
            tuple(rows_of_block.unflatten(0, split) for rows_of_block in single),
            self.final_layer.modulate(rows).unflatten(0, split),
            first,
        )

    def modulation_modules(self) -> Iterator[tuple[str, nn.Module]]:
        """(path, module) of all that a forward with `modulations` never touches."""
        paths = ["time_in", "vector_in", *(["guidance_in"] if self.config.guidance_embed else [])]
        for i in range(len(self.double_blocks)):
            paths += [f"double_blocks.{i}.img_mod", f"double_blocks.{i}.txt_mod"]
        paths += [f"single_blocks.{i}.modulation" for i in range(len(self.single_blocks))]
        for path in (*paths, "final_layer.adaLN_modulation"):
            yield path, self.get_submodule(path)

    def offload_modulations(self) -> None:
        """Moves `modulation_modules` to host memory; 27 % of the 13B model's block weights.

        `modulations` then brings one layer at a time to the device of its inputs. A forward without `modulations` does
        too, at every call, which is slow. `.to(device)` brings all back.
        """
        for _, module in self.modulation_modules():
            if not any(weight.is_meta for weight in module.parameters()):  # streamed ones are in no device's memory
                module.to("cpu")

    def condition(self, timestep: Tensor, pooled_text: Tensor, guidance: Tensor | None) -> Tensor:
        """Timestep + pooled text + guidance embeddings: [B] -> [B, D]; timesteps [N, 1] -> [N, B, D]."""
        device = pooled_text.device
        vec = near(self.time_in, device)(timestep) + near(self.vector_in, device)(pooled_text.to(self.dtype))
        return vec if self.guidance_in is None else vec + near(self.guidance_in, device)(guidance)

    def first_condition(self, timestep: Tensor, pooled_text: Tensor) -> Tensor:
        """Condition of the clean first frame, [B] -> [B, D]: timestep 0 and the pooled text, without guidance."""
        device = pooled_text.device
        time = near(self.time_in, device)(torch.zeros_like(timestep))
        return time + near(self.vector_in, device)(pooled_text.to(self.dtype))

    def run_blocks(
        self,
        held: list[Tensor],  # [B, S, D], one, which is taken out
        txt: Tensor,  # [B, L, D]
        vec: Tensor | None,  # [B, D]
        rope: tuple[Tensor, Tensor],  # each [S, head_dim] fp32
        kv_len: Tensor | None,  # [B]
        modulations: Modulations | None = None,  # of one step; instead of vec and first
        *,
        first_tokens: int = 0,  # image-to-video: those of the clean frame
        first: Tensor | None = None,  # [B, D], their vec
    ) -> Tensor:
        """All blocks; returns the video tokens [B, S, D]."""
        run, img = self.executor.run, held.pop()
        length, text_len = img.shape[1], txt.shape[1]
        for i, block in enumerate(self.double_blocks):
            double, first_vec = (None, first) if modulations is None else modulations.of_block(i)
            img, txt = run(block, img, txt, vec, rope, kv_len, double, first_tokens, first_vec)
        x = torch.cat((img, txt), dim=1)
        del img, txt  # the last double block's would stay through all single blocks
        for i, block in enumerate(self.single_blocks, len(self.double_blocks)):
            single, first_vec = (None, first) if modulations is None else modulations.of_block(i)
            x = run(block, x, vec, rope, text_len, kv_len, single, first_tokens, first_vec)
        return x[:, :length]

    def rope(self, grid: tuple[int, int, int], device: torch.device) -> tuple[Tensor, Tensor]:
        """cos and sin of the video tokens of a grid (t, y, x), each [t * y * x, head_dim] fp32."""
        dims, theta = self.config.rope_dims, self.config.rope_theta
        # A cache of tensors would be an invisible input of a graph, and fake ones would stay in it.
        if torch.compiler.is_compiling() or plain.rehearsed() is not None:
            cos, sin = rope_table(grid, dims=dims, theta=theta)
            return cos.to(device), sin.to(device)
        return cached_rope_table(grid, dims, theta, device)

    def _check_inputs(
        self,
        latents: Tensor,
        timestep: Tensor,
        text: Tensor,
        text_mask: Tensor | None,
        pooled_text: Tensor,
        guidance: Tensor | None,
    ) -> None:
        config, batch = self.config, latents.shape[0]
        if latents.ndim != 5 or latents.shape[1] != config.in_channels:
            raise ValueError(f"latents must be [B, {config.in_channels}, T, h, w], got {list(latents.shape)}")
        for name, size, patch in zip(("T", "h", "w"), latents.shape[2:], config.patch_size, strict=True):
            if size % patch or size == 0:
                raise ValueError(f"latents {name} = {size} must be a positive multiple of the patch size {patch}")
        if text.ndim != 3 or text.shape[0] != batch or text.shape[1] == 0 or text.shape[2] != config.text_dim:
            raise ValueError(f"text must be [{batch}, L >= 1, {config.text_dim}], got {list(text.shape)}")
        _check_shape("timestep", timestep, [batch])
        _check_shape("pooled_text", pooled_text, [batch, config.pooled_text_dim])
        if text_mask is not None:
            _check_shape("text_mask", text_mask, list(text.shape[:2]))
        if not config.guidance_embed and guidance is not None:
            raise ValueError(
                "guidance was given, but this model has no guidance input (guidance_embed=False): use true_cfg_scale"
            )
        if config.guidance_embed and guidance is None:
            raise ValueError(
                "guidance is missing: this guidance-distilled model needs guidance = scale * 1000, shape [B]"
            )
        if guidance is not None:
            _check_shape("guidance", guidance, [batch])


def _check_shape(name: str, tensor: Tensor, shape: list[int]) -> None:
    if list(tensor.shape) != shape:
        raise ValueError(f"{name} must have shape {shape}, got {list(tensor.shape)}")


def trim_padding(
    text: Tensor,  # [B, L, C]
    mask: Tensor | None,  # [B, L]
) -> tuple[Tensor, Tensor | None]:
    """Cuts the text to the longest valid prefix of the batch; the mask becomes None when nothing else is padding.

    Padded text influences nothing, so this only saves work. It reads the mask's values, which on a GPU would stall the
    host in every step, and cannot be in a compiled graph: there the padding stays, and attention skips it by kv_len.
    Raises ValueError where a mask has holes (checked where it can be read).
    """
    if mask is None or mask.device.type != "cpu" or torch.compiler.is_compiling():
        return text, mask
    valid = mask != 0
    samples = valid.tolist()
    counts = [sum(sample) for sample in samples]
    if not all(all(sample[:count]) for sample, count in zip(samples, counts, strict=True)):
        raise ValueError("text_mask must be a prefix of each row (valid tokens first, then padding)")
    longest = max(1, *counts)  # one column stays, so that no op sees an empty text
    return text[:, :longest], None if min(counts) == longest else valid[:, :longest]
