"""Evaluations work on as many clips at once as the training: what they hold does not grow with what is judged."""

import pytest
import torch
from helpers.small_parts import MODEL, TINY

from hunyuan_video.cli import main
from hunyuan_video.data.world import WorldConfig
from hunyuan_video.models import CausalVAE, VAEConfig
from hunyuan_video.training.config import EncodedFlowRun, FlowRun, LoopConfig, StageConfig, StagesRun, VAERun
from hunyuan_video.training.config import GuidanceDistillationRun as GuidanceRun
from hunyuan_video.training.tasks.flow import FlowTask
from hunyuan_video.training.tasks.flow_cached import cached_flow
from hunyuan_video.training.tasks.flow_encoded import encoded_flow
from hunyuan_video.training.tasks.flow_staged import StagedData
from hunyuan_video.training.tasks.guidance_distillation import GuidanceDistillationTask, velocity_errors
from hunyuan_video.training.tasks.vae import VAETask

LOOP = LoopConfig(batch=4, steps=2, precision="fp32")
WORLD = WorldConfig(size=16, num_frames=5, clips=40)


def quiet(line):
    pass


class Largest:
    """The largest batch that each of some modules is called with."""

    def __init__(self, *modules):
        self.seen = dict.fromkeys(range(len(modules)), 0)
        for index, module in enumerate(modules):
            module.register_forward_pre_hook(lambda _, args, index=index: self.note(index, args[0]))

    def note(self, index, tensor):
        self.seen[index] = max(self.seen[index], len(tensor))


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    if not (TINY / "sampling.json").exists():
        pytest.skip("the bundled checkpoint is not in this tree, and its encoders are needed")
    folder = tmp_path_factory.mktemp("parts")
    torch.manual_seed(1)
    vae = CausalVAE(VAEConfig(latent_channels=4, block_out_channels=(4, 4, 4, 4), layers_per_block=1, norm_groups=2))
    vae.save_pretrained(folder / "vae")
    bucket = ("--bucket", "5x16x16", "--captions", "1", "--clips", "16")
    assert main(["encode", "toyworld:narrow", "-o", str(folder / "data"), *bucket]) == 0
    return folder


def test_held_out_clips_of_encoded_data(parts, tmp_path):
    run = EncodedFlowRun(model=MODEL, data=str(parts / "data"), held_out=10, sample_steps=1, loop=LOOP)
    losses = []
    for batch in (3, 4, 16):
        task = encoded_flow(EncodedFlowRun(**{**vars(run), "loop": LoopConfig(batch=batch, precision="fp32")}),
                            tmp_path, quiet)  # fmt: skip
        with torch.no_grad():
            for parameter in task.network.parameters():
                parameter.normal_(0, 0.1, generator=torch.Generator().manual_seed(parameter.numel()))
        largest = Largest(task.network.img_in, task.data.encoder.vae.decoder.conv_in)
        losses.append(task.evaluate(1, tmp_path)["validation_loss"])
        assert largest.seen == {0: min(max(batch, 2), 10), 1: 1}
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-6)


def test_prompts_of_a_toyworld(parts, tmp_path):
    run = FlowRun(vae=str(parts / "vae"), text=str(TINY), model=MODEL, world=WORLD, sample_steps=1, eval_prompts=10,
                  loop=LOOP)  # fmt: skip
    task = cached_flow(run, tmp_path / "run", quiet)
    largest = Largest(task.network.img_in, task.data.clips.vae.decoder.conv_in)
    task.evaluate(1, tmp_path)
    assert largest.seen == {0: 4, 1: 1}


def test_samples_of_a_stage(tmp_path):
    stage = StageConfig(steps=1, anchors=(16,), frames=(5,), max_tokens=4, max_batch=2)
    config = StagesRun(model={**MODEL, "in_channels": 16, "out_channels": 16}, aspects=("1:1",), stages=(stage,),
                       sample_steps=1, eval_prompts=5)  # fmt: skip
    task = FlowTask(config, StagedData(config, stage), quiet)
    largest = Largest(task.network.img_in, task.data.encoder().vae.decoder.conv_in)
    task.evaluate(1, tmp_path)
    assert largest.seen == {0: 2, 1: 1}


def test_a_distillations_report(parts, tmp_path):
    transformer = cached_flow(
        FlowRun(vae=str(parts / "vae"), text=str(TINY), model=MODEL, world=WORLD), tmp_path, quiet
    )
    transformer.network.save_pretrained(tmp_path / "teacher")
    run = GuidanceRun(teacher=str(tmp_path / "teacher"), vae=str(parts / "vae"), text=str(TINY), world=WORLD, loop=LOOP,
                      report_scales=(2.0,))  # fmt: skip
    task = GuidanceDistillationTask(run, tmp_path / "run", quiet)
    largest = Largest(task.network.img_in, task.teacher.network.img_in)
    velocity_errors(task, task.teacher)
    assert largest.seen == {0: 0, 1: 4}


def test_clips_of_a_vae(tmp_path):
    model = {"block_out_channels": [4, 4, 4, 4], "layers_per_block": 1, "norm_groups": 2, "latent_channels": 4}
    run = VAERun(model=model, world=WORLD, pca_clips=12, crop=16, crop_frames=5, full_batch=2, loop=LOOP)
    task = VAETask(run, tmp_path / "run", quiet)
    largest = Largest(task.network.encoder.conv_in, task.network.decoder.conv_in)
    task.export(tmp_path / "export")
    task.evaluate(1, tmp_path)
    assert largest.seen == {0: 1, 1: 1}
