"""Run configurations: dataclasses read from YAML. One module for each topic; every name is importable from here."""

from hunyuan_video.data.world import WorldConfig
from hunyuan_video.distributed.config import ParallelConfig
from hunyuan_video.training.config.building import build, check_model
from hunyuan_video.training.config.common import VALIDATION_SEED, LoopConfig, LoRAConfig, OptimizerConfig
from hunyuan_video.training.config.distillation import GuidanceDistillationRun, StepDistillationRun
from hunyuan_video.training.config.flow import EncodedFlowRun, FlowRun, StageConfig, StagesRun
from hunyuan_video.training.config.other import BundleRun, EncodeRun, SequenceRun, TextRun
from hunyuan_video.training.config.reading import KINDS, load_config
from hunyuan_video.training.config.recipes import recipe_path
from hunyuan_video.training.config.vae import VAERun, VAEStage, VAEStagesRun
from hunyuan_video.training.config.yaml_file import as_yaml, read_yaml

__all__ = [
    "KINDS",
    "VALIDATION_SEED",
    "BundleRun",
    "EncodeRun",
    "EncodedFlowRun",
    "FlowRun",
    "GuidanceDistillationRun",
    "LoRAConfig",
    "LoopConfig",
    "OptimizerConfig",
    "ParallelConfig",
    "SequenceRun",
    "StageConfig",
    "StagesRun",
    "StepDistillationRun",
    "TextRun",
    "VAERun",
    "VAEStage",
    "VAEStagesRun",
    "WorldConfig",
    "as_yaml",
    "build",
    "check_model",
    "load_config",
    "read_yaml",
    "recipe_path",
]
