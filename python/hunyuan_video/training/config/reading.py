"""Reading run configurations from YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from hunyuan_video.errors import UserError
from hunyuan_video.training.config.building import build, nearest
from hunyuan_video.training.config.distillation import GuidanceDistillationRun, StepDistillationRun
from hunyuan_video.training.config.flow import EncodedFlowRun, FlowRun, StagesRun
from hunyuan_video.training.config.other import BundleRun, EncodeRun, SequenceRun, TextRun
from hunyuan_video.training.config.vae import VAERun, VAEStagesRun
from hunyuan_video.training.config.yaml_file import parse_yaml, read_yaml

KINDS: dict[str, type] = {
    "vae": VAERun,
    "vae_stages": VAEStagesRun,
    "flow": FlowRun,
    "flow_encoded": EncodedFlowRun,
    "guidance_distillation": GuidanceDistillationRun,
    "step_distillation": StepDistillationRun,
    "text": TextRun,
    "encode": EncodeRun,
    "bundle": BundleRun,
    "sequence": SequenceRun,
    "stages": StagesRun,
}


def load_config(path: str | Path, overrides: tuple[str, ...] = ()) -> Any:
    """Read a YAML run configuration; overrides are "a.b=value" strings with YAML values.

    Raises UserError naming file, key and reason for a missing file, bad YAML, unknown keys or wrong types.
    """
    raw = read_yaml(path)
    if not isinstance(raw, dict):
        raise UserError(f"{path}: kind must be one of {', '.join(KINDS)}, got {raw!r}")
    for item in overrides:
        key, equals, value = item.partition("=")
        if not equals:
            raise UserError(f"--set {item}: write key=value, for example loop.steps=100")
        *parents, leaf = key.split(".")
        place = raw
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise UserError(f"--set {item}: {parent} is a value, not a section")
        try:
            place[leaf] = parse_yaml(value)
        except yaml.YAMLError:
            raise UserError(f"--set {item}: the value is not valid YAML") from None
        except UserError as error:
            raise UserError(f"--set {item}: {error}") from None
    kind = raw.get("kind")
    if str(kind) not in KINDS:
        raise UserError(f"{path}: kind must be one of {', '.join(KINDS)}, got {kind!r}{nearest(str(kind), KINDS)}")
    return build(KINDS[str(kind)], raw, str(path))
