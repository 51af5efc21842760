"""A model's card in Markdown: what the checkpoint is, its defaults, memory and time, training data, and its evaluation.

Nothing is measured here: results come from the JSON files of `eval`, and a part without one names the command.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hunyuan_video.checkpoints.layout import checkpoint_folder
from hunyuan_video.checkpoints.pipeline import read_sampling_json
from hunyuan_video.errors import UserError
from hunyuan_video.evaluation import report
from hunyuan_video.evaluation.prompt_following import as_markdown
from hunyuan_video.evaluation.study import analysis
from hunyuan_video.files import read_json
from hunyuan_video.planning.run_plan import RunPlan, plan_lines
from hunyuan_video.sampling.planned import plan_sampling

PARTS = {
    "following": "hunyuan-video eval --model MODEL -o following.json",
    "metrics": "hunyuan-video eval metrics FOLDER -o metrics.json",
    "comparison": "hunyuan-video eval compare FOLDER_A FOLDER_B -o comparison.json",
    "study": "hunyuan-video eval study analyse STUDY -o study.json",
}


def card(model: str, results: Iterable[str | Path] = ()) -> str:
    """The card of a bundled checkpoint, a folder or a repository. results: JSON files that `eval` wrote.

    Raises UserError for a checkpoint that is not whole, or a file of another kind.
    """
    folder = checkpoint_folder(model)
    sampling = read_sampling_json(folder)
    found: dict[str, list[dict[str, Any]]] = {part: [] for part in PARTS}
    for path in results:
        content = read_json(Path(path), remedy="write it again with eval and -o")
        found[kind_of(content, path)].append(content)
    title = folder.name if Path(model).is_dir() else model
    lines = [f"# {title}", "", *_defaults(sampling), *_plan(plan_sampling(model, {})), *_training(sampling)]
    lines += ["## Evaluation", ""]
    for part, contents in found.items():
        lines += [line for content in contents for line in (*_result(part, content), "")]
        if not contents:
            lines += [f"- no {part}: `{PARTS[part].replace('MODEL', model)}`"]
    return "\n".join(lines).rstrip() + "\n"


def kind_of(content: Mapping[str, Any], path: str | Path) -> str:
    """The part of the card that a JSON file of `eval` is for. UserError for others."""
    keys = {"following": ("table", "world"), "metrics": ("metrics", "videos"), "comparison": ("verdict", "line"),
            "study": ("kept", "systems")}  # fmt: skip
    for part, names in keys.items():
        if all(name in content for name in names):
            return part
    raise UserError(f"{path}: no result of eval, eval metrics, eval compare or eval study analyse")


def _defaults(sampling: Mapping[str, Any]) -> list[str]:
    """The sampling settings of the checkpoint and its adapters."""
    names = ("height", "width", "num_frames", "fps", "num_inference_steps", "true_cfg_scale", "guidance_scale",
             "flow_shift", "solver")  # fmt: skip
    adapters = sampling.get("adapters", {})
    rows = {"plain": sampling} | {name: {**sampling, **own} for name, own in adapters.items()}
    lines = ["## Sampling", "", "| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for name, row in rows.items():
        label = f"{name} (default)" if name == sampling.get("adapter") else name
        lines.append(f"| {label} | " + " | ".join(str(row.get(key, "")) for key in names) + " |")
    return [*lines, ""]


def _plan(plan: RunPlan) -> list[str]:
    """Memory and time of a video with the defaults, as planned for this machine."""
    lines = ["## Memory and time", "", "Planned for one video with the defaults on the machine that wrote this:", ""]
    lines += ["| stage | GPU GB | host GB | seconds |", "|---|---|---|---|"]
    for stage in plan.stages:
        time = "not known" if stage.seconds is None else f"{stage.seconds:.1f}"
        lines.append(f"| {stage.name} | {stage.device_bytes / 1e9:.2f} | {stage.host_bytes / 1e9:.2f} | {time} |")
    return [*lines, "", *plan_lines(plan), ""]


def _training(sampling: Mapping[str, Any]) -> list[str]:
    """Provenance of the training data, as far as the checkpoint records it."""
    lines = ["## Training data", ""]
    if "world" in sampling:
        lines.append(f"Drawn: the toyworld `{sampling['world']}`; no video or person of the real world is in it.")
        if training := sampling.get("training"):
            lines.append(", ".join(f"{name} {value}" for name, value in training.items()) + ".")
    else:
        lines.append("The checkpoint's folder does not record what it was trained on.")
    return [*lines, ""]


def _result(part: str, content: dict[str, Any]) -> list[str]:
    if part == "following":
        text = f"{content['prompts']} held-out prompts of the {content['world']} world, seed {content['seed']}"
        return ["### Prompt following", "", text, "", as_markdown(content["table"])]
    if part == "metrics":
        text = f"{content['videos']} videos; 95 % intervals"
        return ["### Metrics", "", text, "", report.as_markdown(content)]
    if part == "comparison":
        return [f"- {content['line']}"]
    return ["### Human study", "", analysis.as_markdown(content)]
