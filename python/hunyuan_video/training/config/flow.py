"""Runs that train the transformer with flow matching; `stages` is progressive (paper section 4.6)."""

from __future__ import annotations

from dataclasses import dataclass, field

from hunyuan_video.data.world import WorldConfig
from hunyuan_video.errors import UserError
from hunyuan_video.models.transformer.config import IMAGE_CONDITIONS, TransformerConfig
from hunyuan_video.rules import ABOVE_ZERO, AT_LEAST_ONE, NOT_NEGATIVE, SHARE, limited
from hunyuan_video.training.config.building import check_model, path
from hunyuan_video.training.config.common import LoopConfig, LoRAConfig, OptimizerConfig


def check_transformer(run: FlowRun | EncodedFlowRun | StagesRun) -> None:
    """UserError for an `image_condition` or a `model` that no transformer has."""
    if run.image_condition not in IMAGE_CONDITIONS:
        known = " or ".join(repr(name) for name in IMAGE_CONDITIONS)
        raise UserError(f"image_condition must be {known}, got {run.image_condition!r}")
    check_model(run.model, TransformerConfig)


@dataclass(frozen=True)
class FlowRun:
    """Train the transformer with flow matching (paper section 4.4) on cached latents of the world."""

    kind: str = "flow"
    output: str = path("runs/tiny/flow")
    vae: str = path("runs/tiny/vae/export")
    text: str = path("runs/tiny/text")
    model: dict = field(default_factory=dict)  # TransformerConfig fields
    world: WorldConfig = field(default_factory=WorldConfig)
    # of each clip, embedded before the training, which then draws on its device; 0: drawn anew
    captions: int = limited(0, NOT_NEGATIVE)
    loop: LoopConfig = field(default_factory=LoopConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    text_dropout: float = limited(0.1, SHARE)  # captions replaced by "" for classifier-free guidance
    t_mean: float = 0.0  # logit-normal timestep distribution
    t_std: float = limited(1.0, NOT_NEGATIVE)
    t_shift: float = limited(1.0, ABOVE_ZERO)
    # > 0: t_shift is for videos of so many tokens, others get SD3's shift by resolution
    t_shift_tokens: int = limited(0, NOT_NEGATIVE)
    init_from: str = path("")  # an exported transformer to start from
    image_condition: str = ""  # "token_replace": image-to-video, the first latent frame is given
    lora: LoRAConfig = field(default_factory=LoRAConfig)
    sample_steps: int = limited(30, AT_LEAST_ONE)
    cfg_scale: float = limited(3.0, NOT_NEGATIVE)
    eval_prompts: int = limited(40, NOT_NEGATIVE)

    def __post_init__(self) -> None:
        check_transformer(self)


@dataclass(frozen=True)
class EncodedFlowRun:
    """Train the transformer with flow matching on a data set of `hunyuan-video encode` (tasks/flow_encoded.py)."""

    kind: str = "flow_encoded"
    output: str = path("runs/flow")
    data: str = path("data/encoded")  # folder of the data set
    checkpoint: str = path("tiny")  # whose VAE and text encoders made the data; samples are made with them
    model: dict = field(default_factory=dict)  # TransformerConfig fields
    init_from: str = path("")  # an exported transformer to start from
    image_condition: str = ""  # "token_replace": image-to-video, the first latent frame is given
    lora: LoRAConfig = field(default_factory=LoRAConfig)
    weights: dict = field(default_factory=dict)  # bucket -> how often it is drawn; default its number of clips
    text_dropout: float = limited(0.1, SHARE)  # captions replaced by "" for classifier-free guidance
    t_mean: float = 0.0  # logit-normal timestep distribution
    t_std: float = limited(1.0, NOT_NEGATIVE)
    t_shift: float = limited(1.0, ABOVE_ZERO)
    # > 0: t_shift is for videos of so many tokens, others get SD3's shift by resolution
    t_shift_tokens: int = limited(0, NOT_NEGATIVE)
    held_out: int = limited(8, NOT_NEGATIVE)  # the last clips of each bucket, for the validation loss and the sheets
    workers: int = limited(2, NOT_NEGATIVE)  # threads that read ahead; they change no batch
    sample_steps: int = limited(30, AT_LEAST_ONE)
    cfg_scale: float = limited(3.0, NOT_NEGATIVE)
    loop: LoopConfig = field(default_factory=LoopConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    def __post_init__(self) -> None:
        check_transformer(self)


@dataclass(frozen=True)
class StageConfig:
    """One stage. It starts from the averaged weights of the one before, with a fresh optimizer."""

    name: str = ""
    steps: int = limited(1000, AT_LEAST_ONE)
    anchors: tuple[int, ...] = (256,)  # pixels: sides of the squares whose areas the buckets have
    anchor_shares: tuple[float, ...] = limited((), ABOVE_ZERO)  # of the micro-batches; equal where empty
    # durations, one more than a multiple of the VAE's compression; 1: images
    frames: tuple[int, ...] = limited((1,), AT_LEAST_ONE)
    images: float = limited(0.0, SHARE)  # share of the micro-batches of a video stage that are images, 0..1
    image_anchors: tuple[int, ...] = ()  # of those images; the stage's where empty
    max_tokens: int = limited(32768, AT_LEAST_ONE)  # of video in a micro-batch: sets each bucket's batch
    max_batch: int = limited(64, AT_LEAST_ONE)  # samples in a micro-batch, whatever the budget
    t_shift: float = limited(1.0, ABOVE_ZERO)  # of the training times; larger at higher resolution
    loop: dict = field(default_factory=dict)  # what differs from the run's loop section
    optimizer: dict = field(default_factory=dict)  # what differs from the run's optimizer section


@dataclass(frozen=True)
class StagesRun:
    """Train the transformer through all stages."""

    kind: str = "stages"
    output: str = path("runs/progressive")
    encoders: str = path("tiny")  # checkpoint folder with VAE and text encoders; "tiny" is the bundled one
    data: str = path("toyworld:narrow")  # drawn and encoded as needed; or a folder that `hunyuan-video encode` wrote
    data_seed: int = 1
    model: dict = field(default_factory=dict)  # TransformerConfig fields
    init_from: str = path("")  # an exported transformer to start the first stage from
    image_condition: str = ""  # "token_replace": image-to-video, the first latent frame is given; no image stages
    stages: tuple[StageConfig, ...] = ()
    aspects: tuple[str, ...] = ("16:9", "4:3", "1:1", "3:4", "9:16")
    text_dropout: float = limited(0.1, SHARE)  # captions replaced by "" for classifier-free guidance
    structured: float = limited(0.3, SHARE)  # share of captions that are structured (toyworld)
    field_dropout: float = limited(0.5, SHARE)  # of each field of a structured caption; those left are permuted
    t_mean: float = 0.0  # logit-normal timestep distribution
    t_std: float = limited(1.0, NOT_NEGATIVE)
    loop: LoopConfig = field(default_factory=LoopConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    workers: int = limited(1, NOT_NEGATIVE)  # threads that read the next step's batches; they change none
    sample_steps: int = limited(30, AT_LEAST_ONE)
    cfg_scale: float = limited(3.0, NOT_NEGATIVE)
    eval_prompts: int = limited(8, NOT_NEGATIVE)  # samples of an evaluation; 0: none

    def __post_init__(self) -> None:
        check_transformer(self)
        for index, stage in enumerate(self.stages):
            if "/" in stage.name:
                raise UserError(f"stages[{index}]: name {stage.name!r} becomes a folder's; write it without /")
            for key in ("steps", "batch"):
                if key in stage.loop:
                    raise UserError(f"stages[{index}]: loop: {key} follows from the stage's own steps and max_batch")
