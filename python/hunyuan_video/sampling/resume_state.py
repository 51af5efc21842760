"""The resumable state of a run: one safetensors file that holds all that the remaining steps need.

It contains latents, solver history, the encoded prompts, an encoded image and a step cache where there are such and, as
JSON metadata, settings, seeds and a fingerprint of the models. A resumed run therefore encodes no prompt and draws no
noise, and its frames equal the unbroken run's bit for bit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from hunyuan_video.errors import ArgumentError, UserError
from hunyuan_video.files import staged_file
from hunyuan_video.sampling.prompts import PromptEmbeds, tokens_from_json
from hunyuan_video.sampling.request import ARGUMENTS, Settings, check_argument

FORMAT = "hunyuan-video sampling state 1"
RESTART = "start the run without resuming"
PARTS = ("text", "mask", "pooled")


@dataclass
class SamplingState:
    """Everything between two steps."""

    step: int  # steps done; the run is complete at settings.steps
    latents: Tensor  # [N, C, T, h, w] float32
    solver: dict[str, Tensor]  # the solver's history, empty for Euler
    embeds: PromptEmbeds  # N rows
    negative: PromptEmbeds | None  # N rows, where classifier-free guidance is on
    settings: Settings
    prompts: list[str]
    negative_prompts: list[str]
    seeds: list[int]
    models: dict[str, str]  # part name -> fingerprint
    tokens: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    image: Tensor | None = None  # [N, C, 1, h, w] float32, image-to-video: the first latent frames
    cache: dict[str, Tensor] = field(default_factory=dict)  # of a run with a step cache (`StepCache.state`)
    extra: dict[str, Any] = field(default_factory=dict)  # the caller's own JSON (the command line keeps its job here)

    @property
    def total(self) -> int:
        return self.settings.steps

    @property
    def complete(self) -> bool:
        return self.step == self.total

    def save(self, path: str | Path) -> None:
        """Replaces `path` in one step: a reader, or a kill at any time, sees the old state or the new one."""
        path = Path(path)
        if not path.parent.is_dir():
            raise UserError(f"cannot write the sampling state {path}: folder {path.parent} does not exist")
        temporary = path.with_name(f".{path.name}.tmp")
        with staged_file(path, "the sampling state", "free some space", temporary) as file:
            file.write(save(self._tensors(), metadata={"hunyuan_video": json.dumps(self._values())}))

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {"latents": self.latents} | ({} if self.image is None else {"image": self.image})
        tensors |= {f"solver.{name}": tensor for name, tensor in self.solver.items()}
        tensors |= {f"cache.{name}": tensor for name, tensor in self.cache.items()}
        for kind, embeds in (("embeds", self.embeds), ("negative", self.negative)):
            if embeds is not None:
                tensors |= {f"{kind}.{part}": getattr(embeds, part) for part in PARTS}
        return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}

    def _values(self) -> dict[str, Any]:
        names = ("step", "prompts", "negative_prompts", "seeds", "models", "tokens", "extra")
        return {"format": FORMAT, "settings": self.settings.as_dict(), **{name: getattr(self, name) for name in names}}

    @classmethod
    def load(cls, path: str | Path, remedy: str = RESTART) -> SamplingState:
        """Reads a state; UserError if the file is missing, damaged or something else. remedy: the message's end."""
        values, tensors = _read(Path(path), remedy)
        _check(values, tensors, path, remedy)
        settings = _settings(values.pop("settings"), path, remedy)
        values.pop("format")
        embeds = PromptEmbeds(*(tensors[f"embeds.{part}"] for part in PARTS))
        negative = None
        if "negative.text" in tensors:
            negative = PromptEmbeds(*(tensors[f"negative.{part}"] for part in PARTS))
        solver, cache = (
            {name.removeprefix(kind): tensor for name, tensor in tensors.items() if name.startswith(kind)}
            for kind in ("solver.", "cache.")
        )
        return cls(
            latents=tensors["latents"], solver=solver, cache=cache, embeds=embeds, negative=negative, settings=settings,
            image=tensors.get("image"), **values,
        )  # fmt: skip


def _check(values: dict[str, Any], tensors: dict[str, Tensor], path: str | Path, remedy: str) -> None:
    """UserError for entries that are missing or of another kind than `save` writes."""
    kinds = {"step": int, "settings": dict, "models": dict, "tokens": dict, "extra": dict}
    kinds |= dict.fromkeys(("prompts", "negative_prompts", "seeds"), list)
    wrong = [name for name, kind in kinds.items() if type(values.get(name)) is not kind]
    wrong += [name for name in values if name not in (*kinds, "format")]
    wrong += [name for name in ("prompts", "negative_prompts") if not _all(values.get(name), str)]
    wrong += ["seeds"] if not _all(values.get("seeds"), int) else []
    shapes = {"latents": 5, "embeds.text": 3, "embeds.mask": 2, "embeds.pooled": 2}
    optional = {name.replace("embeds", "negative"): size for name, size in shapes.items() if "embeds" in name}
    wrong += [name for name in shapes if name not in tensors]
    wrong += [name for name in optional if name not in tensors and "negative.text" in tensors]
    sizes = {**shapes, **optional, "image": 5}
    wrong += [name for name, tensor in tensors.items() if tensor.ndim != sizes.get(name, tensor.ndim)]
    wrong += [name for name, tensor in tensors.items() if name in sizes and len(tensor) != len(tensors["latents"])]
    try:
        tokens_from_json(values["tokens"])
    except (KeyError, TypeError, AttributeError):
        wrong.append("tokens")
    if wrong:
        raise UserError(f"{path} is damaged: its entry {wrong[0]!r} is missing or wrong; {remedy}")


def _all(values: Any, kind: type) -> bool:
    return isinstance(values, list) and all(type(value) is kind for value in values)


def _settings(saved: dict[str, Any], path: str | Path, remedy: str) -> Settings:
    """Settings of a state; those that are newer than the state are what they were before: the released model's."""
    before = {name: known.released for name, known in ARGUMENTS.items() if known.setting}
    listed = {name: tuple(value) if isinstance(value, list) else value for name, value in saved.items()}
    try:
        settings = Settings(**{**before, **listed})
        for name, value in settings.as_dict().items():
            if value is not None:
                check_argument(name, value)
    except (TypeError, ArgumentError) as error:
        raise UserError(f"{path} has settings of another version ({error}); {remedy}") from error
    return settings


def _read(path: Path, remedy: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.is_file():
        raise UserError(f"{path}: {'a folder, not a sampling state' if path.is_dir() else 'no such file'}; {remedy}")
    try:
        with safe_open(path, "pt") as file:
            values = json.loads((file.metadata() or {}).get("hunyuan_video", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no mapping)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path} is not a readable sampling state ({error}); {remedy}") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise UserError(f"{path} is not a sampling state of this version (wants {FORMAT!r}); {remedy}")
    return values, tensors


def differences(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """ "name: saved -> now" for every entry of `now` that is not what was saved."""
    return [f"{name}: {saved.get(name)!r} -> {value!r}" for name, value in now.items() if saved.get(name) != value]
