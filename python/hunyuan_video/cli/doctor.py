"""`hunyuan-video doctor`: what this machine is, what was built, and which kernel each operation uses and why."""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path
from typing import Any

from hunyuan_video import __version__

GB = 1e9


def add_parser(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser("doctor", help="explain the machine, the build and each operation's choice")
    parser.add_argument("--json", action="store_true", help="print the facts as JSON")
    return parser


def run(args: argparse.Namespace) -> int:
    facts = {**machine(), "kernels": kernels(), "checkpoint": bundled(), "video": video_codec()}
    print(json.dumps(facts, indent=2, default=str) if args.json else "\n".join(in_words(facts)))
    return 0


def machine() -> dict[str, Any]:
    import torch

    return {
        "version": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory": memory(),
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
        "torch_cpu": torch.backends.cpu.get_cpu_capability(),
        "torch_cuda": torch.version.cuda,
        "gpus": [gpu(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else [],
    }


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def memory() -> dict[str, float] | None:
    """Bytes of main memory, all and free; None where the system does not say."""
    try:
        lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
        table = {words[0].rstrip(":"): 1024.0 * int(words[1]) for words in lines}
        return {"total": table["MemTotal"], "free": table["MemAvailable"]}
    except (OSError, KeyError, ValueError, IndexError):
        return posix_memory()


def posix_memory() -> dict[str, float] | None:
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        return {"total": page * os.sysconf("SC_PHYS_PAGES"), "free": page * os.sysconf("SC_AVPHYS_PAGES")}
    except (ValueError, OSError, AttributeError):
        return None


def gpu(index: int) -> dict[str, Any]:
    import torch

    facts = torch.cuda.get_device_properties(index)
    return {"name": facts.name, "memory": facts.total_memory, "capability": f"sm_{facts.major}{facts.minor}"}


def kernels() -> dict[str, Any]:
    import hunyuan_ext

    return getattr(hunyuan_ext, "capabilities", dict)()


def bundled() -> dict[str, Any]:
    from hunyuan_video.sampling.loading import BUNDLED

    folder = BUNDLED["tiny"]
    present = (folder / "model_index.json").exists()
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) if present else 0
    return {"name": "tiny", "present": present, "bytes": size}


def video_codec() -> dict[str, Any]:
    try:
        import av
    except ImportError as error:
        return {"pyav": None, "h264": False, "why": str(error)}
    return {"pyav": av.__version__, "h264": "libx264" in av.codecs_available}


def in_words(facts: dict[str, Any]) -> list[str]:
    """The report, one thought per line, problems with what to do about them."""
    lines = [f"hunyuan-video {facts['version']} on Python {facts['python']}, {facts['system']}", "", "Machine"]
    lines.append(
        f"  processor: {facts['cpu']}, {facts['cores']} usable cores; torch uses {facts['torch_threads']} threads"
    )
    if facts["memory"]:
        total, free = facts["memory"]["total"] / GB, facts["memory"]["free"] / GB
        lines.append(f"  memory: {total:.1f} GB, {free:.1f} GB of it free")
    build = f"CUDA {facts['torch_cuda']}" if facts["torch_cuda"] else "CPU only"
    lines.append(f"  torch {facts['torch']} ({build}); its own CPU kernels use {facts['torch_cpu']}")
    lines += gpu_lines(facts)
    lines += ["", "Files", *file_lines(facts)]
    lines += ["", "Operations", *kernel_lines(facts["kernels"])]
    return lines


def gpu_lines(facts: dict[str, Any]) -> list[str]:
    if facts["gpus"]:
        return [
            f"  GPU {i}: {one['name']}, {one['memory'] / GB:.0f} GB, {one['capability']}; models run here in bfloat16"
            for i, one in enumerate(facts["gpus"])
        ]
    why = "torch was built without CUDA" if not facts["torch_cuda"] else "torch finds no usable device"
    return [f"  GPU: none ({why}); models run on the processor in float32"]


def file_lines(facts: dict[str, Any]) -> list[str]:
    tiny, video = facts["checkpoint"], facts["video"]
    if tiny["present"]:
        lines = [f"  bundled checkpoint tiny: {tiny['bytes'] / 1e6:.1f} MB"]
    else:
        lines = ["  bundled checkpoint tiny: missing; install the package again, or give --model FOLDER"]
    if video["h264"]:
        return [*lines, f"  video files: H.264 through PyAV {video['pyav']}"]
    return [*lines, "  video files: no H.264 encoder; pip install av (until then .gif, .webp and .png work)"]


def kernel_lines(facts: dict[str, Any]) -> list[str]:
    return [f"  {name}: {value}" for name, value in facts.items()] or ["  plain PyTorch for every operation"]
