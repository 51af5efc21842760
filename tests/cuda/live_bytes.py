"""Memory of a forward pass on a GPU, found without one: fake CUDA tensors, and kernels that do nothing."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from hunyuan_ext.core import native, plain
from hunyuan_video.models import HunyuanVideoTransformer, TransformerConfig
from hunyuan_video.models.fp8 import convert_to_fp8_modules
from hunyuan_video.models.transformer.executor import PLAIN
from hunyuan_video.models.transformer.rope import cached_rope_table

ARCHS = ("sm_80", "sm_89", "sm_90a")
BF16 = torch.bfloat16


class LiveBytes(TorchDispatchMode):
    """Sum of all storages on the device that are alive: `now`, and `most` with what was alive then (`largest`)."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.alive: dict[int, tuple[int, tuple[int, ...], torch.dtype]] = {}
        self.ignored: set[int] = set()
        self.largest: list[tuple[int, tuple[int, ...], torch.dtype]] = []

    def ignore(self, *tensors: torch.Tensor) -> None:
        """Leaves out what is there anyway."""
        self.ignored.update(tensor.untyped_storage()._cdata for tensor in tensors)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for entry in torch.utils._pytree.tree_leaves(out):
            if isinstance(entry, torch.Tensor) and entry.device.type == "cuda":
                self._add(entry)
        return out

    def _add(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self.alive or key in self.ignored:
            return
        size = -(-storage.nbytes() // 512) * 512  # as torch's allocator rounds
        self.alive[key] = size, tuple(tensor.shape), tensor.dtype
        self.now += size
        weakref.finalize(storage, self._drop, key)
        if self.now > self.most:
            self.most = self.now
            self.largest = sorted(self.alive.values(), key=lambda entry: -entry[0])[:12]

    def _drop(self, key: int) -> None:
        self.now -= self.alive.pop(key)[0]


class NoKernels:
    """The native module of a GPU: kernels do nothing, functions that size a workspace answer."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None

    def isa_in_use(self) -> int:
        return 0

    def attention_fp8_workspace(self, batch: int, queries: int, keys: int, heads: int, dim: int) -> int:
        rows, blocks = batch * heads, -(-keys // 128)
        return rows * (2 * queries * dim + dim * blocks * 128 + 8 * queries + 8 * blocks + 4 * dim + 4 * blocks * dim)


@pytest.fixture
def hopper(monkeypatch, fake_devices):
    """From now on fake CUDA tensors go the way of real ones on a GPU of compute capability 9.0."""
    monkeypatch.setattr(native, "module", NoKernels())
    monkeypatch.setattr(native, "cuda_archs", lambda: ARCHS)
    monkeypatch.setattr(native, "cuda_capability", lambda index: (9, 0))
    monkeypatch.setattr(plain, "is_plain", lambda *tensors: True)
    monkeypatch.setattr(FakeTensor, "data_ptr", lambda tensor: 0)
    monkeypatch.setattr(HunyuanVideoTransformer, "reset_parameters", lambda model: None)
    native.forget()
    yield
    monkeypatch.undo()
    native.forget()


@torch.no_grad()
def peak(
    config: TransformerConfig,
    *,
    fp8: bool,
    latent: tuple[int, int, int] = (33, 90, 160),
    text: int = 256,
    whole: bool = False,
    steps: int = 0,
) -> tuple[int, LiveBytes]:
    """Bytes of the weights, and what is alive beside them in a forward pass on `latent` (frames, rows, columns).

    whole: blocks work on all tokens at once. steps: if any, the modulations of so many are made first, by layers that
    stay in host memory.
    """
    cached_rope_table.cache_clear()
    with torch.device("meta"):
        model = HunyuanVideoTransformer(config).to(BF16).eval().requires_grad_(False)
    if fp8:
        convert_to_fp8_modules(model)
    with FakeTensorMode(allow_non_fake_inputs=True):
        weights = sum(move_to(part, "cuda:0") for part in model.modules())
        if fp8:
            model.set_attention_precision("fp8")
        if whole:
            model.executor = PLAIN
        like = dict(device="cuda:0", dtype=BF16)
        inputs = torch.empty(1, config.in_channels, *latent, **like), torch.empty(1, device="cuda:0")
        condition = dict(
            text=torch.empty(1, text, config.text_dim, **like), guidance=torch.empty(1, device="cuda:0"),
            pooled_text=torch.empty(1, config.pooled_text_dim, **like),
        )  # fmt: skip
        live = LiveBytes()
        live.ignore(*model.parameters(), *model.buffers())
        if steps:
            for _, module in model.modulation_modules():
                for part in module.modules():
                    weights -= move_to(part, "cpu")
            of_condition = torch.empty(steps, device="cuda:0"), condition["pooled_text"], condition["guidance"]
            with live:
                condition["modulations"] = model.modulations(*of_condition).step(0)
        with live:
            model(*inputs, **condition)
    cached_rope_table.cache_clear()  # of fake tensors
    return weights, live


def move_to(part: torch.nn.Module, device: str) -> int:
    """Replaces a module's own parameters and buffers by fake ones on a device; their bytes."""
    total = 0
    for table in (part._parameters, part._buffers):
        for name, value in table.items():
            if value is not None:
                fake = torch.empty_like(value, device=device)
                total += fake.nbytes
                table[name] = torch.nn.Parameter(fake, False) if table is part._parameters else fake
    return total
