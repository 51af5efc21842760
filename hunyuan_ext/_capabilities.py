"""What was built, what this machine can run and what each op would pick: for `hunyuan-video doctor`."""

from __future__ import annotations

import platform
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from hunyuan_ext import _backend, _cpu_attention, _cpu_linear, _training
from hunyuan_ext._backend import BFLOAT, FLOAT, Choice

Describe = Callable[[str, torch.dtype], dict]  # (device, dtype) -> {"implementation", "reason"}
DTYPES = {"float32": FLOAT, "bfloat16": BFLOAT}
CONDITIONS = (
    "Without gradients native kernels take plain tensors outside autocast; with gradients those of bfloat16 on a CPU, "
    "by autocast or by themselves. Everything else is composed from torch operations, so training works everywhere."
)


def capabilities() -> dict:
    """A plain dict of the build, the machine and the choices; costs milliseconds.

    "build": how the native module was compiled ({"native": False, "reason": ...} without one). "machine": processor,
    its features, threads, CUDA devices. "ops": {op: {device: {dtype: {"implementation", "reason"}}}}, implementation
    one of "native", "torch" and "native + torch" (a native pass around torch's operation). "cuda_kernels": {kernel:
    {"dtypes", "archs": {architecture: what does the work there}, "gpus": those of this machine that it runs on}}.
    "training": {op: as in "ops"}, with gradients in bfloat16 on the CPU.
    """
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    return {
        "version": _version(),
        "backend": _backend.mode,
        "build": _build(),
        "machine": _machine(),
        "conditions": CONDITIONS,
        "ops": {
            op: {device: {name: describe(device, dtype) for name, dtype in DTYPES.items()} for device in devices}
            for op, describe in OPS.items()
        },
        "cuda_kernels": _cuda_kernels(),
        "training": _training.described(),
    }


def _version() -> str:
    try:
        return version("hunyuan-ext")
    except PackageNotFoundError:  # run from a source tree
        return _backend.module.build_facts()["version"] if _backend.module else "unknown"


def _build() -> dict:
    if _backend.module is None:
        return {"native": False, "reason": _backend.missing}
    facts = dict(_backend.module.build_facts())
    facts["cuda_archs"] = list(_backend.cuda_archs())
    return {"native": True, **facts, "isa": list(facts["isa"]), "file": Path(str(_backend.module.__file__)).name}


def _machine() -> dict:
    module = _backend.module
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cpu": _cpu_name(),
        "cpu_features": module.cpu_features().split() if module else [],
        "isa": _backend.isa(),
        "threads": torch.get_num_threads(),
        "bfloat16_matmul": _backend._bfloat16_matmul(),
        "cuda_devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def _cpu_name() -> str:
    """The processor's name as the kernel reports it, else its architecture."""
    facts = Path("/proc/cpuinfo")
    if facts.exists():
        for line in facts.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cuda_kernels() -> dict:
    """What was built for GPUs, kernel by kernel; empty without CUDA kernels."""
    built = _backend.cuda_archs()
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    facts = {}
    for kernel, dtypes in _backend.KERNELS.items():
        if not built or "cuda" not in dtypes:
            continue
        work = _backend.TENSOR_CORES.get(kernel, dict.fromkeys(built, "vector loads and stores"))
        archs = {arch: how for arch, how in work.items() if arch in built}
        runs = [
            i
            for i in range(gpus)
            if any(_backend.runs_on(arch, *torch.cuda.get_device_capability(i)) for arch in archs)
        ]
        names = [str(dtype).removeprefix("torch.") for dtype in dtypes["cuda"]]
        facts[kernel] = {"dtypes": names, "archs": archs, "gpus": runs}
    return facts


def _whole(op: str) -> Describe:
    """An op that is one kernel."""

    def describe(device: str, dtype: torch.dtype) -> dict:
        native, reason = _backend.choice(op, device, dtype)
        return {"implementation": "native" if native else "torch", "reason": reason}

    return describe


def _around(op: str, what: str, torch_part: str, key: torch.dtype | None = None) -> Describe:
    """An op whose main loop is torch's, with a native pass before it."""

    def describe(device: str, dtype: torch.dtype) -> dict:
        choice: Choice = _backend.choice(op, device, key or dtype)
        loop = _torch_loop(device, dtype, torch_part)
        if not choice.native:
            return {"implementation": "torch", "reason": f"{loop}; {what}: {choice.reason}"}
        return {"implementation": "native + torch", "reason": f"{what}: {choice.reason}; then {loop}"}

    return describe


def _torch_loop(device: str, dtype: torch.dtype, torch_part: str) -> str:
    if device == "cpu" and dtype == BFLOAT and not _backend._bfloat16_matmul():
        return f"{torch_part} in float32 (this processor has no bfloat16 matrix unit)"
    return torch_part


def _group_norm(device: str, dtype: torch.dtype) -> dict:
    facts = _whole("group_norm_silu")(device, dtype)
    if facts["implementation"] == "native" and _backend.mode == "auto":
        facts["reason"] += f"; torch below {_backend.SMALL_VOLUME} elements"
    return facts


def _attention(device: str, dtype: torch.dtype) -> dict:
    loop = _backend.choice("attention", device, dtype)
    around = _around("qk_norm_rope", "norm and rotation of q and k", "torch's scaled_dot_product_attention")
    if device == "cpu":
        native, reason = _cpu_attention.describe(dtype)
        facts = around(device, dtype)
        if native:
            return {"implementation": "native", "reason": reason}
        return facts | {"reason": f"{facts['reason']} ({reason})"}
    if not loop.native:
        return around(device, dtype)
    fp8 = _backend.choice("attention_fp8", device, dtype)
    reason = f"head dimension 64 or 128, {loop.reason}; precision fp8: {fp8.reason}"
    return {"implementation": "native", "reason": reason}


def _convolution(device: str, dtype: torch.dtype) -> dict:
    kernel = _backend.choice("causal_conv3d", device, dtype)
    if kernel.native:
        return {"implementation": "native", "reason": f"channels-last, {kernel.reason}; torch's conv3d for NCDHW"}
    return _around("pad_causal", "replicate padding", "torch's conv3d")(device, dtype)


def _quantize(device: str, dtype: torch.dtype) -> dict:
    return {"implementation": "torch", "reason": "runs once, when a checkpoint is converted"}


def _linear(weights: str, op: str, fallback: str) -> Describe:
    """A linear layer: the unit that the table in `_cpu_linear` names, else torch."""

    def describe(device: str, dtype: torch.dtype) -> dict:
        choice = _backend.choice(op, device, dtype)
        row = _cpu_linear.find_row(weights) if choice.native else None
        if row is None:
            reason = "no unit for it in this build or processor" if choice.native else choice.reason
            return {"implementation": "torch", "reason": f"{fallback}; {reason}"}
        name = _cpu_linear.NAMES[row.unit]
        if not (row.faster or _backend.mode == "native"):
            return {"implementation": "torch", "reason": f"{fallback}; own {name} kernel not chosen: {row.reason}"}
        return {"implementation": "native", "reason": f"own {name} kernel: {row.reason}"}

    return describe


def _plain_linear(device: str, dtype: torch.dtype) -> dict:
    if device == "cpu" and dtype == FLOAT and _backend.mode != "reference" and _cpu_linear.has_onednn():
        return {"implementation": "torch", "reason": "torch's linear; with GELU oneDNN's, which fuses the two"}
    return _linear("bfloat16", "linear", "torch's linear")(device, dtype)


def _fp8_linear(device: str, dtype: torch.dtype) -> dict:
    kernel = _backend.choice("linear_fp8", device, dtype)
    if kernel.native:
        return {"implementation": "native", "reason": f"W8A8 on FP8 tensor cores, {kernel.reason}"}
    own = _linear("float8_e4m3fn", "linear", "torch's matmul")(device, dtype)
    if own["implementation"] == "native":
        return own
    return _around("decode_fp8", "decoding of weight rows", "torch's matmul", torch.float8_e4m3fn)(device, dtype)


OPS = {
    "rope_attention": _attention,
    "causal_conv3d": _convolution,
    "group_norm_silu": _group_norm,
    "layer_norm_modulate": _whole("layer_norm_modulate"),
    "gate_residual": _whole("gate_residual"),
    "quantize_fp8": _quantize,
    "quantize_int8": _quantize,
    "linear": _plain_linear,
    "fp8_linear": _fp8_linear,
    "int8_linear": _linear("int8", "int8_linear", "torch's integer matmul"),
}
