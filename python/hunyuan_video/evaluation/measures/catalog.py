"""The metrics by name: what each gives for a clip, where its definition is from, and what it rewards wrongly."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from hunyuan_video.data.toyworld import WORLDS
from hunyuan_video.errors import ArgumentError
from hunyuan_video.evaluation.clips import Clip
from hunyuan_video.evaluation.measures.features import Looker, consistency
from hunyuan_video.evaluation.measures.temporal import (
    flow_lengths,
    is_dynamic,
    motion_smoothness,
    temporal_flickering,
)
from hunyuan_video.evaluation.prompt_following import psnr
from hunyuan_video.evaluation.side_by_side import COLUMNS, followed
from hunyuan_video.evaluation.ssim import ssim


@dataclass(frozen=True)
class Measure:
    """A metric of one clip."""

    name: str
    reference: str
    failure: str
    share: bool = False  # of a clip 0 or 1
    interest: float = 0.01  # the difference that `compare` asks about
    ranks: bool = True  # more is better


FOLLOWING = "prompt_following"
CONSISTENCY = "subject_consistency[efficientnet-lite0]"
SMOOTHNESS = "motion_smoothness[dis-midpoint]"
DYNAMIC, FLOW = "dynamic_degree[dis]", "flow[dis]"

MEASURES = {
    measure.name: measure
    for measure in (
        Measure(FOLLOWING, "the toyworld's judge: all that the prompt asks for is seen", "knows one world only",
                True, 0.05),
        Measure("temporal_flickering", "VBench 0.1.5, the same definition", "a frozen picture has 1.0"),
        Measure(SMOOTHNESS, "VBench's definition with DIS flow for AMT-S",
                "a frozen picture has 1.0; trembling hardly shows"),
        Measure(DYNAMIC, "VBench's definition with DIS flow for RAFT, at least one pair",
                "an object that jumps at random has the most; small videos show half their motion", True, 0.05, False),
        Measure(FLOW, "its top 5 % of flow, pixels of the clip", "as dynamic degree", interest=0.5, ranks=False),
        Measure(CONSISTENCY, "VBench's formula (subject and background) with EfficientNet-Lite0 for DINO and CLIP",
                "a frozen picture has 1.0; an object that vanishes counts as one that changes its shape"),
        Measure("sharpness", "Crete et al. 2007", "noise is sharp"),
        Measure("aesthetic", "curation's head over EfficientNet-Lite0, trained to rank", "photographs only"),
        Measure("technical", "curation's head over EfficientNet-Lite0, trained to rank", "flat drawings look clean"),
        Measure("psnr", "10 log10(255^2 / MSE) in dB over the clip, against the reference",
                "a shift by a pixel costs more than a blur", interest=0.5),
        Measure("ssim", "Wang et al. 2004, Gaussian window, against the reference", "flat areas hide errors"),
    )
}  # fmt: skip
OF_FOLLOWING = tuple(f"{FOLLOWING}.{column}" for column in COLUMNS if column != "all")
WITH_REFERENCE = ("psnr", "ssim")
_NETWORK = (CONSISTENCY, "sharpness", "aesthetic", "technical")


def measure_of(name: str) -> Measure:
    """A metric by name; a column of prompt following as prompt_following.color. ArgumentError for other names."""
    if name in OF_FOLLOWING:
        return Measure(name, MEASURES[FOLLOWING].reference, MEASURES[FOLLOWING].failure, True, 0.05)
    plain = {key.partition("[")[0]: key for key in MEASURES}
    if name not in MEASURES and name not in plain:
        raise ArgumentError(f"--measure must be one of {', '.join((*MEASURES, OF_FOLLOWING[0], '...'))}, got {name!r}")
    return MEASURES[plain.get(name, name)]


@dataclass
class Meter:
    """Values of clips for some metrics. world: for prompt following."""

    names: tuple[str, ...]
    world: str | None = None

    def __post_init__(self) -> None:
        self.looker = Looker.new()

    def of_clip(self, clip: Clip, prompt: str | None = None, reference: np.ndarray | None = None) -> dict[str, float]:
        """Metric -> value; those of prompt following that the prompt does not concern are left out.

        reference: uint8 [F, H, W, 3] of the clip's shape, for psnr and ssim.
        """
        return self.of_frames(clip.frames(), clip.rate(), prompt, reference)

    def of_frames(
        self,
        frames: np.ndarray,  # uint8 [F, H, W, 3]
        fps: float,
        prompt: str | None = None,
        reference: np.ndarray | None = None,
    ) -> dict[str, float]:
        """As `of_clip`."""
        values: dict[str, float] = {}
        wanted = set(self.names)
        if any(name.startswith(FOLLOWING) for name in wanted) and prompt is not None and self.world is not None:
            seen = followed(torch.from_numpy(frames), prompt, WORLDS[self.world])
            values[FOLLOWING] = float(seen.pop("all"))
            values |= {f"{FOLLOWING}.{column}": float(right) for column, right in seen.items()}
        if "temporal_flickering" in wanted:
            values["temporal_flickering"] = temporal_flickering(frames)
        if SMOOTHNESS in wanted:
            values[SMOOTHNESS] = motion_smoothness(frames)
        if wanted & {DYNAMIC, FLOW}:
            lengths = flow_lengths(frames, fps)
            values[DYNAMIC] = is_dynamic(lengths, len(lengths) + 1, min(frames.shape[1:3]))
            values[FLOW] = float(np.mean(lengths)) if lengths else float("nan")
        if CONSISTENCY in wanted:
            values[CONSISTENCY] = consistency(self.looker.embeddings(frames))
        if wanted & set(_NETWORK[1:]):
            values |= self.looker.quality(frames)
        if reference is not None and wanted & set(WITH_REFERENCE):
            a, b = torch.from_numpy(frames)[None], torch.from_numpy(reference)[None]
            values |= {"psnr": psnr(a, b).item()}
            values |= {"ssim": ssim(a, b).item()} if min(frames.shape[1:3]) >= 11 else {}
        return {name: value for name, value in values.items() if self._is_wanted(name)}

    def _is_wanted(self, name: str) -> bool:
        return name in self.names or FOLLOWING in self.names and name in OF_FOLLOWING


def offline(names: Iterable[str] = MEASURES) -> tuple[str, ...]:
    """Metrics that need neither a reference nor a toyworld."""
    return tuple(name for name in names if name not in (*WITH_REFERENCE, FOLLOWING))
