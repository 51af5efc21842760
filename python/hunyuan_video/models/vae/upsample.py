"""Nearest upsampling and the causal convolution after it, folded into convolutions of the small tensor.

After doubling, two of the three taps along an axis read copies of one source value, so their weights can be added once
instead of multiplied twice: along a doubled axis each parity of the output is a convolution with 2 taps,

    row 2i:    w0 x[i - 1] + (w1 + w2) x[i]      row 2i + 1:    (w0 + w1) x[i] + w2 x[i + 1]    (columns likewise)
    frame 2k:  w0 x[k - 1] + (w1 + w2) x[k]      frame 2k - 1:  (w0 + w1) x[k - 1] + w2 x[k]

Replicate borders of the large tensor are replicate borders of the small one, and the first frame, which is not doubled,
is the even frame 0. 27 taps become 8 (12 where time is not doubled), and the large input never exists. The result is
that of the plain path to rounding: sums of weights are rounded once more.
"""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

import hunyuan_ext as ops

FOLDED_STRIDES = (1, 2)
# Frames x rows x columns of the source below which call overhead decides and the plain path can be faster. From 768
# positions on, it takes 1.05 to 3.2 times the CPU time (Zen4, 32..256 channels, bf16 and fp32, both memory formats).
SMALL_VOLUME = 512
EVEN = ((1.0, 0.0, 0.0), (0.0, 1.0, 1.0))  # [taps of the small convolution, taps of the large]
ODD = ((1.0, 1.0, 0.0), (0.0, 0.0, 1.0))
WHOLE = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
Stride = tuple[int, int, int]


class FoldedWeights:
    """The per-parity weights of one convolution, made when first used and again when the weight has changed.

    They take 64/27 of the weight's memory (48/27 where time is not doubled), and the weight that they were made of is
    kept beside them and compared, bit for bit, at each use: torch's version counter does not see changes made through
    `weight.data`, by numpy or by kernels of other libraries. Reading both took 0.3 % of a decode of the bundled VAE.
    """

    def __init__(self) -> None:
        self._made: tuple[Tensor, Tensor] | None = None  # weight, folded

    def __reduce__(self):
        return FoldedWeights, ()  # copies and pickles of a model make their own

    def clear(self) -> None:
        self._made = None

    def of(self, weight: Tensor, stride: Stride) -> Tensor:
        """weight: [N, C, 3, 3, 3] -> `fold` of it."""
        if not _is_plain(weight):
            return fold(weight, stride)
        made = self._made
        if made is None or not _same_bits(made[0], weight):  # two threads may both get here: they make the same values
            kept = weight.detach().clone()
            made = self._made = (kept, fold(kept, stride))
        return made[1]


def _is_plain(weight: Tensor) -> bool:
    """True for a tensor with values of its own to compare, no subclass that stands for others."""
    return type(weight) in (Tensor, torch.nn.Parameter)


def _same_bits(kept: Tensor, weight: Tensor) -> bool:
    """Equality of dtype, device and every bit; NaN equals itself, 0 is not -0."""
    if kept.dtype != weight.dtype or kept.device != weight.device or kept.shape != weight.shape:
        return False
    bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[weight.dtype.itemsize]
    return torch.equal(kept.view(bits), weight.detach().view(bits))


def parities(stride: Stride) -> product:
    """The (t, h, w) parity of each output phase: 0 even, 1 odd; an axis that is not doubled has one phase, 0."""
    return product(*(range(size) for size in stride))


@torch.no_grad()
def fold(weight: Tensor, stride: Stride) -> Tensor:  # [N, C, 3, 3, 3] -> [parities, N, C, 2 or 3, 2 or 3, 2 or 3]
    """A weight per parity, in the order of `parities`: sums in float32 (float64), rounded once to the dtype."""
    wide = weight.detach().to(torch.promote_types(weight.dtype, torch.float32))
    out = []
    for phases in parities(stride):
        sums = (wide.new_tensor(_sums(*axis)) for axis in zip(phases, stride, strict=True))
        out.append(torch.einsum("nctuv,at,bu,dv->ncabd", wide, *sums).to(weight.dtype))
    return torch.stack(out)


def _sums(phase: int, stride: int) -> tuple[tuple[float, ...], ...]:
    if stride == 1:
        return WHOLE
    return ODD if phase else EVEN


def can_fold(x: Tensor, weight: Tensor, stride: Stride) -> bool:
    """Inference on a CPU, in eager mode, with a weight to watch, doubling or keeping each axis, not too small.

    Training keeps the plain path, whose weight gradient is one convolution. So do GPUs: there the fold is correct too,
    but whether eight small convolutions beat one is not measured.
    """
    if torch.compiler.is_compiling() or x.device.type != "cpu" or not _is_plain(weight):
        return False
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        return False
    if x[0, 0].numel() < SMALL_VOLUME:
        return False
    return max(stride) > 1 and all(size in FOLDED_STRIDES for size in stride) and weight.shape[2:] == (3, 3, 3)


def upsample_conv(
    x: Tensor,  # [B, C, T, H, W]
    weights: Tensor,  # of `fold`
    bias: Tensor | None,  # [N]
    stride: Stride,
) -> Tensor:  # [B, N, 1 + st * (T - 1), sh * H, sw * W]
    """causal_conv3d(upsample_nearest(x, stride), weight, bias) to rounding, in x's memory format."""
    frames, rows, columns = x.shape[2:]
    padded = ops.pad_causal(x, (3 - stride[0], 1, 1))
    out: Tensor | None = None
    for weight, (t, h, w) in zip(weights, parities(stride), strict=True):
        if t and frames == 1:
            continue  # one frame: nothing is doubled in time
        source = padded[:, :, t:]
        source = source[:, :, :, h : h + rows + weight.shape[3] - 1, w : w + columns + weight.shape[4] - 1]
        values = ops.causal_conv3d(source, weight, bias, padded=True)
        if out is None:
            out = _empty_like(values, (1 + stride[0] * (frames - 1), stride[1] * rows, stride[2] * columns))
        # Odd frames are 2k - 1: the first of them comes after frame 0.
        out[:, :, t :: stride[0], h :: stride[1], w :: stride[2]] = values
    assert out is not None  # parity (0, 0, 0) is always there
    return out


def put_parities(
    parts: Tensor,  # [frames, rows + sh - 1, columns + sw - 1, parities * N]: the convolution of a padded slab
    out: Tensor,  # [frames * st (one less if first), sh * rows, sw * columns, N]
    stride: Stride,
    first: bool,  # the slab starts with frame 0, which is not doubled
) -> None:
    """Every parity to its frames, rows and columns."""
    rows, columns, channels = out.shape[1] // stride[1], out.shape[2] // stride[2], out.shape[3]
    for i, (t, h, w) in enumerate(parities(stride)):
        part = parts[:, h : h + rows, w : w + columns, i * channels : (i + 1) * channels]
        if first:  # its frames are 0 | 1 2 | 3 4 ...: odd ones are missing for the first
            out[t :: stride[0], h :: stride[1], w :: stride[2]] = part[t:]
        else:  # 2k - 1, 2k | ...
            out[(1 - t) * (stride[0] - 1) :: stride[0], h :: stride[1], w :: stride[2]] = part


def _empty_like(values: Tensor, volume: tuple[int, int, int]) -> Tensor:
    layout = torch.contiguous_format if values.is_contiguous() else torch.channels_last_3d
    return torch.empty((*values.shape[:2], *volume), dtype=values.dtype, device=values.device, memory_format=layout)
