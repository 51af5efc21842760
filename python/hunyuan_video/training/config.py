"""Run configurations: dataclasses read from YAML, every unknown key or wrong type named with its path."""

from __future__ import annotations

import dataclasses
import importlib
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from hunyuan_video.errors import UserError


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with linear warm-up and a linear decay to zero over the last `decay` fraction of the run."""

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.0
    warmup_steps: int = 100
    decay: float = 0.5  # fraction of the run, 0..1
    clip: float = 1.0  # global gradient norm
    ema: float = 0.999  # decay of the exponential moving average of the weights
    muon_lr: float = 0.0  # > 0: Muon at this rate for matrices and convolutions in blocks, AdamW for the rest


@dataclass(frozen=True)
class ParallelConfig:
    """How a run is spread over the ranks of torchrun, and what it gives up to fit (training/distributed.py)."""

    fsdp: bool = False  # shard weights, gradients, optimizer and average over all ranks; else every rank has them all
    sequence: int = 1  # ranks that share one sample's tokens (Ulysses); divides the number of ranks
    recompute: str = "none"  # in the backward pass: "none" | "blocks" (all) | "selective" (not products and attention)
    recompute_every: int = 1  # only in every k-th block
    offload_activations: bool = False  # what the backward pass needs waits in host memory
    offload_optimizer: bool = False  # weights, gradients and optimizer live in host memory; needs fsdp


@dataclass(frozen=True)
class LoopConfig:
    """What every training run has."""

    steps: int = 1000
    batch: int = 16  # samples in a step, over all ranks
    micro_batches: int = 0  # parts of a step's batch, dealt out to the ranks; 0: one for each rank
    seed: int = 0
    precision: str = "bf16"  # "bf16": autocast, float32 weights; "fp32"
    device: str = "cpu"  # "cpu" | "cuda"
    threads: int = 1
    log_every: int = 20
    save_every: int = 200
    keep: int = 2  # checkpoints kept
    max_skipped: int = 50  # steps without an update, for NaN or infinity, after which the run stops
    sheet_every: int = 500  # contact sheet and metrics; 0: only at the end
    compile: bool = False  # torch.compile the network (needs a C++ compiler on a CPU)
    tensorboard: bool = False  # events in output/tensorboard
    wandb: str = ""  # project to report to
    parallel: ParallelConfig = field(default_factory=ParallelConfig)

    @property
    def micro_batch(self) -> int:
        """Samples that a task draws for one loss."""
        return self.batch // max(self.micro_batches, 1)


@dataclass(frozen=True)
class WorldConfig:
    """The clips of a run: a toyworld by name, pixels and frames, and how many training clips are kept ready on disk."""

    name: str = "narrow"
    size: int = 64
    num_frames: int = 17
    clips: int = 4000
    seed: int = 1
    held_out_seed: int = 4242


@dataclass(frozen=True)
class VAERun:
    """Train the causal VAE (paper section 4.1), bootstrapped from closed-form PCA latents (see training/pca.py)."""

    kind: str = "vae"
    output: str = "runs/tiny/vae"
    model: dict = field(default_factory=dict)  # VAEConfig fields
    init_from: str = ""  # an exported VAE to start from
    train: str = "all"  # "all", or "decoder": the encoder, and so the latent space, stays as it is
    world: WorldConfig = field(default_factory=WorldConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    crop: int = 32  # pixels, of the bootstrap phase
    crop_frames: int = 9
    full_batch: int = 4  # whole clips per step after the bootstrap
    bootstrap: float = 0.6  # fraction of the steps in which the decoder learns from the PCA latents
    pca_clips: int = 400
    whiten: float = 0.5  # 0: PCA coefficients, 1: unit variance each
    latent_noise: float = 0.05
    weight_l1: float = 1.0
    weight_mse: float = 0.5
    weight_gradient: float = 0.3
    weight_kl: float = 1e-6
    weight_latent: float = 0.5  # encoder regression to the PCA latents in the bootstrap
    weight_latent_joint: float = 0.02


@dataclass(frozen=True)
class VAEStage:
    """A part of the VAE's curriculum."""

    steps: int = 1000
    frames: int = 17  # 4k + 1
    size: int = 64  # pixels, a multiple of 16
    batch: int = 8
    tiled: float = 0.0  # share of the steps that decode in tiles (of model.tile_size and tile_frames)


@dataclass(frozen=True)
class VAEStagesRun:
    """Train the causal VAE in stages with the paper's losses (section 4.1.1; see training/vae_stages.py)."""

    kind: str = "vae_stages"
    output: str = "runs/vae"
    model: dict = field(default_factory=dict)  # VAEConfig fields
    init_from: str = ""  # an exported VAE to start from
    data: str = "toyworld:narrow"  # or a folder of captioned videos, or a .jsonl manifest
    data_seed: int = 1
    fps: float = 24.0  # taken from videos
    source_frames: int = 65  # what is read of a clip; strides and stages choose from it
    source_size: int = 64  # pixels
    clips: int = 4000
    held_out: int = 16  # the first clips: never trained on, evaluated
    stages: tuple[VAEStage, ...] = ()
    image_ratio: float = 0.2  # share of image batches: video : image = 4 : 1
    max_stride: int = 8  # frames
    perceptual: str = "efficientnet_lite0"  # or "module:factory"
    weight_l1: float = 1.0
    weight_perceptual: float = 0.1
    weight_adversarial: float = 0.05
    weight_kl: float = 1e-6
    adversarial_start: int = 1000  # step; the paper gives none
    discriminator_width: int = 32
    discriminator_layers: int = 3
    discriminator: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(lr=2e-4, betas=(0.5, 0.9)))
    loop: LoopConfig = field(default_factory=LoopConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)


@dataclass(frozen=True)
class LoRAConfig:
    """Train a low-rank adapter on frozen weights (arXiv 2106.09685) in the place of all weights."""

    rank: int = 0  # 0: no adapter, all weights are trained
    alpha: float = 0.0  # the adapter's product is scaled by alpha / rank; 0: alpha = rank
    targets: tuple[str, ...] = ()  # regular expressions for whole paths of linears; default attention and MLP


@dataclass(frozen=True)
class FlowRun:
    """Train the transformer with flow matching (paper section 4.4) on cached latents of the world."""

    kind: str = "flow"
    output: str = "runs/tiny/flow"
    vae: str = "runs/tiny/vae/export"
    text: str = "runs/tiny/text"
    model: dict = field(default_factory=dict)  # TransformerConfig fields
    world: WorldConfig = field(default_factory=WorldConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    text_dropout: float = 0.1  # captions replaced by "" for classifier-free guidance
    t_mean: float = 0.0  # logit-normal timestep distribution
    t_std: float = 1.0
    t_shift: float = 1.0
    t_shift_tokens: int = 0  # > 0: t_shift is for videos of so many tokens, others get SD3's shift by resolution
    init_from: str = ""  # an exported transformer to start from
    lora: LoRAConfig = field(default_factory=LoRAConfig)
    sample_steps: int = 30
    cfg_scale: float = 3.0
    eval_prompts: int = 40


@dataclass(frozen=True)
class EncodedFlowRun:
    """Train the transformer with flow matching on a data set of `hunyuan-video encode` (training/encoded_flow.py)."""

    kind: str = "flow_encoded"
    output: str = "runs/flow"
    data: str = "data/encoded"  # folder of the data set
    checkpoint: str = "tiny"  # whose VAE and text encoders made the data; samples are made with them
    model: dict = field(default_factory=dict)  # TransformerConfig fields
    init_from: str = ""  # an exported transformer to start from
    lora: LoRAConfig = field(default_factory=LoRAConfig)
    weights: dict = field(default_factory=dict)  # bucket -> how often it is drawn; default its number of clips
    text_dropout: float = 0.1  # captions replaced by "" for classifier-free guidance
    t_mean: float = 0.0  # logit-normal timestep distribution
    t_std: float = 1.0
    t_shift: float = 1.0
    t_shift_tokens: int = 0  # > 0: t_shift is for videos of so many tokens, others get SD3's shift by resolution
    held_out: int = 8  # the last clips of each bucket, for the validation loss and the sheets
    workers: int = 2  # threads that read ahead; they change no batch
    sample_steps: int = 30
    cfg_scale: float = 3.0
    loop: LoopConfig = field(default_factory=LoopConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)


@dataclass(frozen=True)
class GuidanceDistillationRun:
    """One pass instead of two: the student takes the guidance scale as an input (paper section 5.2)."""

    kind: str = "guidance_distillation"
    output: str = "runs/tiny/guidance"
    teacher: str = "runs/tiny/flow/export"  # an exported transformer without guidance input
    vae: str = "runs/tiny/vae/export"
    text: str = "runs/tiny/text"
    world: WorldConfig = field(default_factory=WorldConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    scales: tuple[float, ...] = (1.0, 8.0)  # the range that w is drawn from
    t_mean: float = 0.0  # logit-normal timestep distribution
    t_std: float = 1.0
    t_shift: float = 1.0
    sample_steps: int = 30
    eval_scale: float = 3.0  # w of the contact sheets
    eval_prompts: int = 40
    report_scales: tuple[float, ...] = (1.0, 2.0, 4.0, 6.0, 8.0)
    report_prompts: int = 0  # > 0: prompt following of student and teacher at every report scale, after the last step


@dataclass(frozen=True)
class StepDistillationRun:
    """A few steps instead of dozens: the student is a low-rank adapter of the teacher, or a whole copy of it."""

    kind: str = "step_distillation"
    method: str = "consistency"  # "consistency" (phased) or "dmd" (distribution matching, DMD2)
    output: str = "runs/tiny/few_step"
    teacher: str = "runs/tiny/flow/export"  # gives the targets; with a guidance input one pass, else two
    guidance_scale: float = 3.0  # of the teacher
    init_from: str = ""  # an exported transformer the student starts from; empty: the teacher
    init_adapter: str = ""  # an exported adapter to start from
    rank: int = 16  # of the student's adapter; 0: all weights are trained
    targets: tuple[str, ...] = ()  # regular expressions of module paths; empty: `models.lora.TARGETS`
    steps: int = 4  # of the student
    shift: float = 1.0  # of the student's and the teacher's noise levels
    vae: str = "runs/tiny/vae/export"
    text: str = "runs/tiny/text"
    world: WorldConfig = field(default_factory=WorldConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    eval_prompts: int = 40
    teacher_levels: int = 48  # consistency: noise levels of the teacher's solver, a multiple of steps
    teacher_steps: int = 1  # consistency: solver steps between the two ends that must agree
    ema: float = 0.95  # consistency: of the student that gives the targets
    huber: float = 1e-3  # consistency: c of the pseudo-Huber loss
    fake_updates: int = 5  # dmd: steps of the fake score before each of the student's
    fake_rank: int = 0  # dmd: of the fake score's adapter; 0: all weights are trained
    fake_optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)  # dmd
    score_times: tuple[float, ...] = (0.02, 0.98)  # dmd: where the two scores are compared


@dataclass(frozen=True)
class TextRun:
    """Make tokenizers, the tiny Llama-type language model and the tiny CLIP text encoder (training/text)."""

    kind: str = "text"
    output: str = "runs/tiny/text"
    world: str = "full"
    settings: dict = field(default_factory=dict)


@dataclass(frozen=True)
class BundleRun:
    """Put trained parts together as a diffusers-layout checkpoint folder with its sampling defaults."""

    kind: str = "bundle"
    output: str = "runs/tiny/bundle"
    vae: str = "runs/tiny/vae/export"
    text: str = "runs/tiny/text"
    transformer: str = "runs/tiny/flow/export"
    adapters: dict = field(default_factory=dict)  # name -> adapter file of the transformer
    dtype: str = "bf16"
    sampling: dict = field(default_factory=dict)
    limit_mb: float = 16.0


@dataclass(frozen=True)
class SequenceRun:
    """Several configurations, one after the other; finished ones are skipped on resume."""

    kind: str = "sequence"
    runs: tuple[str, ...] = ()


KINDS: dict[str, type | str] = {
    "vae": VAERun,
    "vae_stages": VAEStagesRun,
    "flow": FlowRun,
    "flow_encoded": EncodedFlowRun,
    "guidance_distillation": GuidanceDistillationRun,
    "step_distillation": StepDistillationRun,
    "text": TextRun,
    "bundle": BundleRun,
    "sequence": SequenceRun,
    "stages": "hunyuan_video.training.stages_config:StagesRun",
}


def kind_class(kind: str) -> type:
    """The dataclass of a kind of run; a few live in modules of their own, which import this one."""
    found = KINDS[kind]
    if isinstance(found, str):
        module, name = found.split(":")
        return getattr(importlib.import_module(module), name)
    return found


def load_config(path: str | Path, overrides: tuple[str, ...] = ()):
    """Read a YAML run configuration; overrides are "a.b=value" strings with YAML values.

    Raises UserError naming file, key and reason for a missing file, bad YAML, unknown keys or wrong types.
    """
    path = Path(path)
    try:
        raw = yaml.safe_load(path.read_text())
    except OSError as error:
        raise UserError(f"{path}: cannot read the configuration ({error.strerror}); give a YAML file") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict) or raw.get("kind") not in KINDS:
        raise UserError(
            f"{path}: kind must be one of {', '.join(KINDS)}, got {raw.get('kind') if isinstance(raw, dict) else raw!r}"
        )
    for item in overrides:
        key, found, value = item.partition("=")
        if not found:
            raise UserError(f"--set {item}: write key=value, for example loop.steps=100")
        *parents, leaf = key.split(".")
        place = raw
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise UserError(f"--set {item}: {parent} is a value, not a section")
        place[leaf] = yaml.safe_load(value)
    return build(kind_class(raw["kind"]), raw, str(path))


def build(cls, raw: dict, where: str):
    """A dataclass instance from a dict; errors carry `where`, the path to the offending key."""
    known = {f.name: hint for f, hint in zip(dataclasses.fields(cls), typing.get_type_hints(cls).values(), strict=True)}
    values = {}
    for key, value in raw.items():
        if key not in known:
            raise UserError(f"{where}: unknown key {key!r}; known keys: {', '.join(known)}")
        values[key] = coerce(known[key], value, f"{where}: {key}")
    return cls(**values)


def coerce(hint, value, where: str):
    """Check one value against its type hint (int is accepted for float, lists for tuples)."""
    origin = typing.get_origin(hint)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise UserError(f"{where} must be a section of keys, got {value!r}")
        return build(hint, value, where)
    if origin is tuple:
        item = typing.get_args(hint)[0]
        if not isinstance(value, (list, tuple)):
            raise UserError(f"{where} must be a list, got {value!r}")
        return tuple(coerce(item, v, f"{where}[{i}]") for i, v in enumerate(value))
    if hint is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            return float(value)  # YAML reads 1e-3 as a string
        except ValueError:
            pass
    plain = isinstance(hint, type) and not isinstance(hint, types.GenericAlias)
    if plain and isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise UserError(f"{where} must be {getattr(hint, '__name__', hint)}, got {value!r}")
