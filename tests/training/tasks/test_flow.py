"""The flow-matching run on a small cache of latents: conditions, a short run, the exported transformer."""

import json

import pytest
import torch
from helpers.small_parts import MODEL, TINY

from hunyuan_video.data.encoder import vae_fingerprint
from hunyuan_video.data.toyworld import WORLDS
from hunyuan_video.data.world import WorldConfig
from hunyuan_video.errors import UserError
from hunyuan_video.models import CausalVAE, HunyuanVideoTransformer, VAEConfig
from hunyuan_video.training.config import FlowRun, LoopConfig, load_config
from hunyuan_video.training.run import run
from hunyuan_video.training.tasks.flow_cached import cached_flow

WORLD = {"name": "narrow", "size": 16, "num_frames": 5, "clips": 16}


def quiet(line):
    pass


@pytest.fixture
def vae(tmp_path):
    if not (TINY / "sampling.json").exists():
        pytest.skip("the bundled checkpoint is not in this tree, and its text encoders are needed")
    torch.manual_seed(1)
    model = CausalVAE(VAEConfig(latent_channels=4, block_out_channels=(4, 4, 4, 4), layers_per_block=1, norm_groups=2))
    model.save_pretrained(tmp_path / "vae")
    return tmp_path / "vae"


def test_captions_are_dropped_at_the_given_rate_and_belong_to_their_clips(tmp_path, vae):
    config = FlowRun(vae=str(vae), text=str(TINY), model=MODEL, world=WorldConfig(**WORLD), text_dropout=0.25)
    task = cached_flow(config, tmp_path / "run", quiet)
    captions = task.data.clips.captions([3] * 400, torch.Generator().manual_seed(0), 0.25)
    empty = captions.count("")
    assert 70 < empty < 130
    scene = WORLDS["narrow"].scene(3, seed=config.world.seed)
    assert all(scene.color in text and scene.shape in text for text in captions if text)
    assert len(set(captions)) > 20
    condition = task.data.clips.embed(["", captions[0] or captions[1]])
    assert condition["text"].shape[::2] == (2, 128) and condition["pooled_text"].shape == (2, 96)
    assert condition["text_mask"].sum(1).tolist()[0] < condition["text_mask"].sum(1).tolist()[1]


def test_evaluation_without_prompts_is_none(tmp_path, vae):
    config = FlowRun(vae=str(vae), text=str(TINY), model=MODEL, world=WorldConfig(**WORLD), eval_prompts=0)
    assert cached_flow(config, tmp_path / "run", quiet).evaluate(1, tmp_path) == {}


def test_shift_follows_the_resolution(tmp_path, vae):
    config = FlowRun(
        vae=str(vae), text=str(TINY), model=MODEL, world=WorldConfig(**WORLD), t_shift_tokens=8, t_shift=2.0
    )
    task = cached_flow(config, tmp_path / "run", quiet)
    latents = task.data.clips.latents[:1]
    assert latents.shape == (1, 4, 2, 2, 2) and task.objective(latents).shift == pytest.approx(1.0)  # 2 tokens
    assert task.shift(torch.zeros(1, 4, 2, 8, 4)) == pytest.approx(2.0 * 2**0.5)  # 16 tokens


def test_a_short_run_trains_and_exports(tmp_path, vae):
    config = tmp_path / "flow.yaml"
    loop = {"steps": 30, "batch": 8, "log_every": 5, "save_every": 30, "sheet_every": 0, "precision": "fp32"}
    content = {"kind": "flow", "output": str(tmp_path / "flow"), "vae": str(vae), "text": str(TINY), "model": MODEL,
               "world": WORLD, "loop": loop, "optimizer": {"lr": 3e-3, "muon_lr": 3e-3, "warmup_steps": 2},
               "sample_steps": 2, "eval_prompts": 2}  # fmt: skip
    config.write_text(json.dumps(content))
    run(config, report=quiet)
    lines = [json.loads(line) for line in (tmp_path / "flow/log.jsonl").read_text().splitlines()]
    assert lines[5]["loss"] < lines[0]["loss"]
    assert {"color", "floor_color"} <= set(lines[-1]["evaluation"])
    model = HunyuanVideoTransformer.from_pretrained(tmp_path / "flow/export")
    assert model.config.in_channels == 4 and model.final_layer.linear.weight.abs().sum() > 0


def test_latents_of_another_encoder_are_not_reused(vae):
    entry = CausalVAE.from_pretrained(vae)
    key = vae_fingerprint(entry)
    with torch.no_grad():
        entry.decoder.conv_in.conv.weight += 1
    assert vae_fingerprint(entry) == key  # the decoder does not change the latents
    with torch.no_grad():
        entry.encoder.conv_in.conv.weight += 1
    assert vae_fingerprint(entry) != key


def test_missing_text_folder_is_one_line(tmp_path, vae):
    config = FlowRun(vae=str(vae), text=str(tmp_path / "nowhere"), world=WorldConfig(**WORLD), loop=LoopConfig(steps=1))
    with pytest.raises(UserError, match="text.yaml"):
        cached_flow(config, tmp_path / "run", quiet)


def test_recipe_shapes_fit_the_bundled_text_encoders(request):
    recipe = load_config(request.config.rootpath / "recipes/tiny/flow.yaml")
    if not (TINY / "text_encoder/config.json").exists():
        pytest.skip("the bundled checkpoint is not in this tree")
    assert recipe.model["text_dim"] == json.loads((TINY / "text_encoder/config.json").read_text())["hidden_size"]
    assert (
        recipe.model["pooled_text_dim"] == json.loads((TINY / "text_encoder_2/config.json").read_text())["hidden_size"]
    )
