"""Image-to-video training by token replacement: what is learned, from what, and what is refused."""

import json
from dataclasses import replace

import pytest
import torch
from helpers.small_parts import MODEL, TINY, save_transformer

from hunyuan_video.checkpoints.lora import load_adapter
from hunyuan_video.cli import main
from hunyuan_video.data.encoder import encode_clips
from hunyuan_video.data.toyworld import WORLDS, render
from hunyuan_video.data.world import WorldConfig
from hunyuan_video.errors import UserError
from hunyuan_video.flow import FlowSchedule, integrate, make_solver
from hunyuan_video.media.pixels import to_unit
from hunyuan_video.models import CausalVAE, HunyuanVideoTransformer, VAEConfig
from hunyuan_video.models.precision import quick
from hunyuan_video.training.config import EncodedFlowRun, FlowRun, LoRAConfig, StageConfig, StagesRun
from hunyuan_video.training.network import make_network
from hunyuan_video.training.tasks.flow import FlowTask
from hunyuan_video.training.tasks.flow_cached import cached_flow
from hunyuan_video.training.tasks.flow_encoded import encoded_flow
from hunyuan_video.training.tasks.flow_staged import StagedData
from hunyuan_video.training.tasks.teacher import Teacher

WORLD = {"name": "narrow", "size": 16, "num_frames": 9, "clips": 16}
REPLACE = "token_replace"


def quiet(line):
    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small VAE and a text-to-video transformer that belongs to it."""
    if not (TINY / "sampling.json").exists():
        pytest.skip("the bundled checkpoint is not in this tree, and its text encoders are needed")
    folder = tmp_path_factory.mktemp("parts")
    torch.manual_seed(1)
    vae = CausalVAE(VAEConfig(latent_channels=4, block_out_channels=(4, 4, 4, 4), layers_per_block=1, norm_groups=2))
    vae.save_pretrained(folder / "vae")
    save_transformer(folder, 4)
    return folder


def flow_run(folder, **changes):
    world = WorldConfig(**{**WORLD, **changes.pop("world", {})})
    parts = {"vae": str(folder / "vae"), "text": str(TINY), "init_from": str(folder / "transformer")}
    return FlowRun(**{**parts, "image_condition": REPLACE, "world": world, **changes})


def test_a_text_to_video_checkpoint_learns_to_continue_frames(folder, tmp_path):
    loop = {"steps": 40, "batch": 8, "log_every": 1, "save_every": 40, "sheet_every": 0, "precision": "fp32"}
    content = {"kind": "flow", "output": str(tmp_path / "flow"), "vae": str(folder / "vae"), "text": str(TINY),
               "init_from": str(folder / "transformer"), "image_condition": REPLACE, "world": WORLD, "loop": loop,
               "optimizer": {"lr": 3e-3, "warmup_steps": 2}, "sample_steps": 2, "eval_prompts": 2}  # fmt: skip
    (tmp_path / "flow.yaml").write_text(json.dumps(content))
    assert main(["train", str(tmp_path / "flow.yaml")]) == 0
    lines = [json.loads(line) for line in (tmp_path / "flow/log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    trained = HunyuanVideoTransformer.from_pretrained(tmp_path / "flow/export")
    start = HunyuanVideoTransformer.from_pretrained(folder / "transformer")
    assert trained.config == replace(start.config, image_condition=REPLACE)
    assert trained.state_dict().keys() == start.state_dict().keys()


def test_data_begin_with_the_image_and_samples_keep_it(folder, tmp_path):
    task = cached_flow(flow_run(folder, sample_steps=2, eval_prompts=2), tmp_path / "run", quiet)
    scene = WORLDS["narrow"].scene(3, seed=task.config.world.seed)
    video = to_unit(render([scene], num_frames=9, size=16))
    with torch.no_grad(), quick("cpu"):
        image = encode_clips(task.data.clips.vae, video[:, :, :1])
        clip = encode_clips(task.data.clips.vae, video)
    torch.testing.assert_close(task.data.clips.latents[3:4, :, :1].float(), image, rtol=0, atol=5e-3)
    torch.testing.assert_close(task.data.clips.latents[3:4, :, 1:].float(), clip[:, :, 1:], rtol=0, atol=5e-3)
    assert (clip[:, :, :1] - image).abs().max() > 0.02  # not the clip's own: the encoder's norms see all frames
    clips = task.data.clips
    first = clips.first_frames([scene])
    made = task.sample(clips.embed(["", "a red circle"]), clips.noise(1, 0), first)
    assert torch.equal(made[:, :, :1], first)
    assert task.evaluate(1, tmp_path).keys() >= {"color", "floor_color"}


@pytest.mark.parametrize("solver", ["euler", "heun", "ab2", "lcm"])
def test_every_solver_sees_the_clean_frame(solver):
    first, seen = torch.full((1, 2, 1, 2, 2), 3.0), []

    def velocity(x, times):
        seen.append(x[:, :, :1].clone())
        return torch.ones_like(x)

    out = integrate(velocity, torch.randn(1, 2, 3, 2, 2), make_solver(solver, FlowSchedule(3, 1.0)), first)
    assert len(seen) >= 3 and all(torch.equal(x, first) for x in [*seen, out[:, :, :1]])


def test_stages_and_encoded_data_share_it(folder, tmp_path):
    stage = StageConfig(steps=1, anchors=(16,), frames=(5, 9), max_tokens=8, max_batch=2)
    config = StagesRun(model={**MODEL, "in_channels": 16, "out_channels": 16}, image_condition=REPLACE,
                       aspects=("1:1",), stages=(stage,), sample_steps=1, eval_prompts=1)  # fmt: skip
    task = FlowTask(config, StagedData(config, stage), quiet)
    task.begin(0, 0, 1)
    loss, _ = task.loss(0, torch.Generator().manual_seed(0))
    assert loss.isfinite() and task.network.config.image_condition == REPLACE
    task.evaluate(1, tmp_path)
    assert list((tmp_path / "sheets").glob("*.png"))
    for changes in ({"frames": (1, 5)}, {"images": 0.5}):
        with pytest.raises(UserError, match="image-to-video is given the first latent frame"):
            StagedData(config, replace(stage, **changes))

    encode = ["encode", "toyworld:narrow", "--clips", "12", "--captions", "1", "--bucket", "5x16x16"]
    for name, more in (("plain", []), ("images", ["--image-first", "--bucket", "1x16x16"])):
        assert main([*encode, *more, "-o", str(tmp_path / name)]) == 0
    run = EncodedFlowRun(model=MODEL, image_condition=REPLACE, data=str(tmp_path / "plain"), held_out=2, sample_steps=1)
    with pytest.raises(UserError, match="hunyuan-video encode --image-first"):
        encoded_flow(run, tmp_path, quiet)
    with pytest.raises(UserError, match="bucket 1x16x16: image-to-video is given"):
        encoded_flow(replace(run, data=str(tmp_path / "images")), tmp_path, quiet)
    task = encoded_flow(replace(run, data=str(tmp_path / "images"), weights={"5x16x16": 1}), tmp_path, quiet)
    assert task.loss(0, torch.Generator().manual_seed(0))[0].isfinite()
    assert task.evaluate(1, tmp_path / "encoded")["validation_loss"] > 0


def test_an_adapter_makes_a_text_model_an_image_model(folder, tmp_path):
    task = cached_flow(flow_run(folder, lora=LoRAConfig(rank=2)), tmp_path / "run", quiet)
    task.loss(0, torch.Generator().manual_seed(0))[0].backward()
    learned = [name for name, p in task.network.named_parameters() if p.grad is not None]
    assert learned and all("lora_" in name for name in learned)
    task.export(tmp_path)
    model = HunyuanVideoTransformer.from_pretrained(folder / "transformer")
    assert load_adapter(model, tmp_path / "lora.safetensors").config.image_condition == REPLACE


def test_bad_configurations_say_what_to_do(folder, tmp_path):
    for kind in (FlowRun, EncodedFlowRun, StagesRun):
        with pytest.raises(UserError, match="image_condition must be '' or 'token_replace', got 'latent_concat'"):
            kind(image_condition="latent_concat")
    with pytest.raises(UserError, match="world.num_frames = 1: image-to-video is given"):
        cached_flow(flow_run(folder, world={"num_frames": 1}), tmp_path / "run", quiet)
    with pytest.raises(UserError, match=r"needs patches of one latent frame, got patch_size \(2, 2, 2\)"):
        make_network("", {**MODEL, "patch_size": (2, 2, 2)}, LoRAConfig(), REPLACE)


def test_an_image_model_is_continued_as_one_and_not_distilled(folder, tmp_path):
    network = make_network(str(folder / "transformer"), {}, LoRAConfig(), REPLACE)
    network.save_pretrained(tmp_path)
    assert make_network(str(tmp_path), {}, LoRAConfig(), REPLACE).config == network.config
    with pytest.raises(UserError, match="is image-to-video; set image_condition: token_replace"):
        make_network(str(tmp_path), {}, LoRAConfig(), "")
    with pytest.raises(UserError, match="cannot be distilled"):
        Teacher(network, {})
