"""`hunyuan-video inspect PATH`: what a file or folder is, whether it is whole, and the command that takes it.

The readers of each kind say it; nothing is loaded that they do not load to answer.
"""

from __future__ import annotations

import argparse
import json
import shlex
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hunyuan_video.errors import Notice, UserError
from hunyuan_video.files import read_json

NO_ADAPTER = ("no low-rank weight", "several", "no adapter file")  # what is said of files that are none
WEIGHTS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")


@dataclass
class Finding:
    """The answer about one path. lines: details; problems: why it is not whole; command: one that takes it."""

    path: str
    kind: str
    lines: list[str] = field(default_factory=list)
    command: str = ""
    problems: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[str]:
        """Lines for a person."""
        yield f"{self.path}: {self.kind}"
        yield from (f"  {line}" for line in self.lines)
        yield from (f"  not whole: {problem}" for problem in self.problems)
        if self.command:
            yield f"  {self.command}"


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    parser = commands.add_parser("inspect", help="say what a file or folder is and which command takes it")
    parser.add_argument(
        "source", metavar="PATH", help="a checkpoint, adapter, data set, state, video, configuration ..."
    )
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")
    return parser


def run(args: argparse.Namespace) -> int:
    with warnings.catch_warnings(record=True) as notices:
        warnings.simplefilter("always", Notice)
        finding = inspected(args.source)
    finding.lines += [f"note: {notice.message}" for notice in notices if issubclass(notice.category, Notice)]
    print(json.dumps(vars(finding), indent=1) if args.json else "\n".join(finding))
    return 1 if finding.problems else 0


def inspected(source: str) -> Finding:
    """The answer about a path, or a bundled checkpoint's name. UserError for what no reader understands."""
    from hunyuan_video.checkpoints.layout import BUNDLED

    path = Path(BUNDLED.get(source, source))
    if not path.exists():
        raise UserError(f"{source}: no such file or folder")
    finding = _folder(path) if path.is_dir() else _file(path)
    finding.path = source
    if finding.command:
        finding.command = f"hunyuan-video {finding.command.format(shlex.quote(source))}"
    return finding


def _folder(path: Path) -> Finding:
    from hunyuan_video.checkpoints.layout import is_pipeline

    if (path / "dataset.json").exists():
        return _data_set(path)
    if is_pipeline(path):
        return _pipeline(path)
    if any(path.glob("step_*")) or (path / "resolved.json").exists():
        return _training(path)
    if (path / "frame-0001.png").exists():
        return _media(path)
    if weights := [name for name in sorted(path.iterdir()) if name.suffix in WEIGHTS]:
        return _weights(path, weights)
    return _videos(path)


def _file(path: Path) -> Finding:
    suffix = path.suffix.lower()
    if suffix == ".jsonl":
        return _videos(path)
    if suffix == ".tar":
        return _shard(path)
    if suffix in (".yaml", ".yml"):
        from hunyuan_video.training.config import load_config

        config = load_config(path)
        kind = getattr(config, "kind", type(config).__name__)
        return Finding("", "a configuration of training", [f"kind {kind}"], "train {} --dry-run")
    if path.name == "dataset.json":
        return _data_set(path.parent)
    return _weights(path, [path]) if suffix in WEIGHTS else _media(path)


def _data_set(path: Path) -> Finding:
    from hunyuan_video.data.latent_dataset import EncodedDataset
    from hunyuan_video.data.staleness import differences

    data = EncodedDataset(path)
    settings = data.description["source"]
    lines = [f"{len(members)} clips of {bucket}" for bucket, members in data.buckets.items()]
    lines += [f"from {settings['source']} with the encoders of {settings['model']}"]
    skipped = path / "skipped.jsonl"
    if skipped.exists():
        lines.append(f"{len(skipped.read_bytes().splitlines())} files left out, {skipped} names them")
    if settings.get("image_first"):
        lines.append("for image-to-video: first frames were encoded alone")
    return Finding("", "a data set of encode", lines, "train CONFIG  # data: {}", differences(path, settings))


def _shard(path: Path) -> Finding:
    from hunyuan_video.data.latent_dataset import unpack
    from hunyuan_video.data.shards import index_path, read_index, read_member

    members = read_index(path)
    if not members:
        raise UserError(f"{path}: a tar file without encoded clips")
    try:
        clip = unpack(read_member(members[0]))
    except (OSError, EOFError, ValueError) as error:
        return Finding("", "a shard of a data set", [f"{len(members)} clips"], "", [f"{members[0].name}: {error}"])
    lines = [f"{len(members)} clips, latents {list(clip.latents.shape)}", f"first: {clip.key}: {clip.captions[0]!r}"]
    return Finding("", "a shard of a data set", [*lines, *([] if index_path(path).exists() else ["without its index"])])


def _pipeline(path: Path) -> Finding:
    from hunyuan_video.checkpoints.layout import MODEL_INDEX, part_folders
    from hunyuan_video.checkpoints.pipeline import read_sampling_json

    layout = "diffusers" if (path / MODEL_INDEX).exists() else "official"
    finding = Finding("", f"a whole checkpoint in {layout} layout", command="sample PROMPT --model {}")
    for part, folder in part_folders(path).items():
        if not folder.is_dir():
            finding.problems.append(f"{folder} is missing")
            continue
        if part in ("transformer", "vae"):
            try:
                finding.lines.append(f"{part}: {_component(folder, part)}")
            except UserError as error:
                finding.problems.append(str(error))
        else:
            finding.lines.append(f"{part}: {folder}")
    values = read_sampling_json(path)
    finding.lines += [f"adapter: {name}" for name in values.get("adapters", {})]
    if world := values.get("world"):
        finding.lines.append(f"trained on the {world} toyworld: `hunyuan-video sample --words` lists what it knows")
    return finding


def _component(path: Path, component: Any) -> str:
    """Layout, sizes and types of one model's weights. Raises UserError."""
    from hunyuan_video.checkpoints.locate import open_checkpoint

    found = open_checkpoint(path, component)
    infos = found.stored.infos.values()
    types = sorted({str(info.dtype).removeprefix("torch.") for info in infos})
    numbers = sum(info.count for info in infos)
    config = found.config
    names = ("double_blocks", "single_blocks", "hidden_size", "in_channels", "block_out_channels", "latent_channels")
    sizes = [f"{name} {getattr(config, name)}" for name in names if hasattr(config, name)]
    return f"{found.layout} names, {numbers / 1e6:.1f} M numbers, {', '.join(types)}; {', '.join(sizes)}"


def _weights(path: Path, files: list[Path]) -> Finding:
    """A state, an adapter, or weights of models: the reader that understands it says what it is."""
    from hunyuan_video.checkpoints.adapters import given_file
    from hunyuan_video.checkpoints.locate import components_at
    from hunyuan_video.checkpoints.lora_file import AdapterFile

    if path.suffix == ".safetensors" and (state := _state(path)):
        return state
    try:
        adapter = AdapterFile(given_file(path))
    except UserError as error:
        no_adapter = error
    else:
        lines = [adapter.summary(), *adapter.notices]
        return Finding("", "an adapter of the transformer", lines, "sample PROMPT --adapter {}")
    try:
        components = components_at(path)
    except UserError as no_model:
        if text := _text_model(path):
            return text
        raise no_model if any(text in str(no_adapter) for text in NO_ADAPTER) else no_adapter from None
    lines = [f"{component}: {_component(path, component)}" for component in components]
    command = "convert {} FOLDER --layout diffusers"
    return Finding("", f"weights of {' and '.join(components)}, {_count(files)}", lines, command)


def _count(files: list[Path]) -> str:
    return "one file" if len(files) == 1 else f"{len(files)} files"


def _text_model(path: Path) -> Finding | None:
    """A folder of a text encoder; None for any other."""
    config = path / "config.json"
    kind = read_json(config).get("model_type") if config.exists() else None
    return Finding("", "a text encoder", [f"model_type {kind}"]) if kind else None


def _state(path: Path) -> Finding | None:
    """An interrupted or complete sampling; None for any other file."""
    from hunyuan_video.checkpoints.safetensors_file import SafetensorsFile
    from hunyuan_video.sampling.resume_state import SamplingState

    if "hunyuan_video" not in SafetensorsFile(path).metadata:
        return None
    try:
        state = SamplingState.load(path)
    except UserError:
        return None
    lines = [f"step {state.step} of {state.total}, latents {list(state.latents.shape)}", *map(repr, state.prompts)]
    command = "decode {} -o out.mp4" if state.complete else "sample --resume {}"
    return Finding("", "latents of a sampling" if state.complete else "an interrupted sampling", lines, command)


def _training(path: Path) -> Finding:
    steps = sorted(step.name for step in path.rglob("step_*") if step.is_dir() and step.name[5:].isdigit())
    exports = sorted(str(export) for export in path.glob("**/export") if export.is_dir())
    lines = [f"newest checkpoint: {steps[-1]}" if steps else "no checkpoint yet"]
    lines += [f"exported weights: {export}" for export in exports]
    return Finding("", "a run of training", lines, "train CONFIG --resume  # output: {}")


def _media(path: Path) -> Finding:
    from hunyuan_video.media.metadata import read_metadata
    from hunyuan_video.media.read import probe

    first = path / "frame-0001.png" if path.is_dir() else path
    info = probe(first)
    lines = [f"{info.codec}, {info.frames} frames of {info.height}x{info.width}, {info.seconds:g} s"]
    command = ""
    if "command" in read_metadata(path):
        lines.append("made by hunyuan-video, which can say how")
        command = "show {}"
    kind = "a folder of frames" if path.is_dir() else f"a {info.kind}" if info.kind == "video" else f"an {info.kind}"
    return Finding("", kind, lines, command, [info.note] if info.note else [])


def _videos(path: Path) -> Finding:
    from hunyuan_video.data.folder import list_folder
    from hunyuan_video.data.manifest import list_manifest
    from hunyuan_video.data.skipped import counted

    entries, skipped = list_folder(path) if path.is_dir() else list_manifest(path)
    if not entries and not skipped:
        raise UserError(f"{path}: neither a checkpoint, an adapter, a data set, a run nor a source of videos")
    lines = [f"{len(entries)} captioned videos and pictures", *([f"left out: {counted(skipped)}"] if skipped else [])]
    return Finding("", "a source of clips", lines, "encode {} -o DATA --bucket FxHxW")
