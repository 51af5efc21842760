"""One folder of videos against another, prompt by prompt: better, worse, or cannot tell."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hunyuan_video.errors import ArgumentError, UserError
from hunyuan_video.evaluation.clips import Clip, equal_shapes, paired_clips, prompts_of, world_of_clips
from hunyuan_video.evaluation.measures.catalog import FOLLOWING, WITH_REFERENCE, Measure, Meter, measure_of
from hunyuan_video.evaluation.paired import Paired, check_interest, paired_shares, paired_values
from hunyuan_video.phases import tell

POPULATION = "new prompts of this kind, with these two sets of weights and these seeds' noise"


@dataclass(frozen=True)
class Comparison:
    """Second folder against the first in one metric."""

    measure: Measure
    folders: tuple[str, str]
    paired: Paired
    planned: int | None

    def as_json(self) -> dict[str, Any]:
        """Fields of `Paired` with the verdict; `difference` is second - first."""
        result = asdict(self.paired)
        return {
            "measure": self.measure.name,
            **dict(zip(("first_folder", "second_folder"), self.folders, strict=True)),
            "difference": result.pop("difference"),
            "low": result.pop("low"),
            "high": result.pop("high"),
            "verdict": self.paired.verdict,
            **result,
            "planned": self.planned,
            "population": POPULATION,
            "line": self.line(),
        }

    def line(self) -> str:
        """The result in one line."""
        names = [Path(folder).name or folder for folder in self.folders]
        p, shown = self.paired, "+.3f"
        if p.low is None or p.high is None:
            return f"cannot tell: {self.measure.name} of {names[1]} - {names[0]} is {p.difference:+.3f} on one prompt"
        interval = f"{p.difference:{shown}} ({p.low:{shown}} to {p.high:{shown}}, 95 %) over {p.pairs} prompts"
        if p.verdict == "cannot tell":
            return f"cannot tell: {self.measure.name} of {names[1]} - {names[0]} is {interval}"
        return f"{p.verdict}: {names[1]} than {names[0]} in {self.measure.name}, {interval}"

    def notes(self) -> list[str]:
        """Lines about what the number of prompts can show."""
        p = self.paired
        seen = "no difference" if p.smallest_visible is None else f"differences from {p.smallest_visible:.3f} on"
        lines = [f"{p.pairs} prompts see {seen} (80 % power)"]
        if p.discordant is not None:
            lines[0] += f", as exactly one is right on {p.discordant:.0%} of them, {p.discordant_high:.0%} at most"
        if p.pairs_needed is not None:
            lines.append(f"{p.pairs_needed} prompts would find a difference of {p.interest:g}")
        if not self.measure.ranks:
            lines.append(f"more {self.measure.name} is not better by itself: it says that there is more motion")
        if self.planned is None:
            lines.append("fix the number of prompts beforehand (--planned N): 20 looks make 25 % false alarms")
        return lines


def compare_folders(
    first: str | Path,
    second: str | Path,
    *,
    measure: str = FOLLOWING,
    suite: str | None = None,
    world: str | None = None,
    reference: str | Path | None = None,
    planned: int | None = None,
    interest: float | None = None,
) -> Comparison:
    """The videos of two folders by one metric; both must hold the same prompts, in equal sizes and lengths.

    reference: a folder of the videos that psnr and ssim are measured against. planned: the number of prompts that was
    fixed beforehand; UserError for another one. interest: the difference that `pairs_needed` is for, in the metric's
    unit. Raises UserError.
    """
    wanted = measure_of(measure)
    least = wanted.interest if interest is None else interest
    check_interest(least, wanted.share)
    pairs = paired_clips(first, second)
    if planned is not None and planned != len(pairs):
        raise UserError(f"{len(pairs)} prompts are there and {planned} were planned; compare when all are made")
    if (reference is None) == (wanted.name in WITH_REFERENCE):
        verb = "needs" if reference is None else "has no use for"
        raise ArgumentError(f"--measure {wanted.name} {verb} --reference, a folder of the videos to be like")
    references = {} if reference is None else {own.id: real for own, real in paired_clips(first, reference)}
    prompts: dict[str, str] = {}
    if wanted.name.startswith(FOLLOWING):
        prompts = _one_prompt_each(pairs, suite)
        world = world_of_clips([own for own, _ in pairs], world)
    meter = Meter((wanted.name,), world)
    rows: list[tuple[float, float]] = []
    for number, (one, other) in enumerate(pairs, 1):
        row = []
        real = references[one.id].frames() if references else None
        for clip, frames in zip((one, other), equal_shapes(one, other), strict=True):
            if real is not None and real.shape != frames.shape:
                raise UserError(f"{clip.path}: not the size or length of {references[one.id].path}")
            values = meter.of_frames(frames, clip.rate(), prompts.get(clip.id), real)
            row.append(values.get(wanted.name, math.nan))
        if not any(map(math.isnan, row)):
            rows.append((row[0], row[1]))
        tell("comparing", number, len(pairs))
    if not rows:
        raise UserError(f"{second}: {wanted.name} says nothing about these videos; choose another --measure")
    columns = [list(column) for column in zip(*rows, strict=True)]
    if wanted.share:
        paired = paired_shares([v == 1.0 for v in columns[0]], [v == 1.0 for v in columns[1]], least)
    else:
        paired = paired_values(columns[0], columns[1], least)
    return Comparison(wanted, (str(first), str(second)), paired, planned)


def _one_prompt_each(pairs: list[tuple[Clip, Clip]], suite: str | None) -> dict[str, str]:
    """id -> prompt; UserError where the videos of a pair were made of different ones."""
    sides = [prompts_of([pair[side] for pair in pairs], suite) for side in (0, 1)]
    for name, prompt in sides[0].items():
        if sides[1][name] != prompt:
            raise UserError(f"{name}: made of different prompts, {prompt[:60]!r} and {sides[1][name][:60]!r}")
    return sides[0]
