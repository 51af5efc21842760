"""Embedded captions kept beside latents: they belong to their clips, and are dropped at the given rate."""

import json

import pytest
import torch
from helpers.small_parts import MODEL, TINY

from hunyuan_video.data.world import WorldConfig
from hunyuan_video.models import CausalVAE, VAEConfig
from hunyuan_video.training.config import FlowRun
from hunyuan_video.training.run import run
from hunyuan_video.training.tasks.caption_bank import captions_of
from hunyuan_video.training.tasks.flow_cached import cached_flow

WORLD = WorldConfig(name="narrow", size=16, num_frames=1, clips=12)


def quiet(line):
    pass


@pytest.fixture
def vae(tmp_path):
    torch.manual_seed(1)
    model = CausalVAE(VAEConfig(latent_channels=4, block_out_channels=(4, 4, 4, 4), layers_per_block=1, norm_groups=2))
    model.save_pretrained(tmp_path / "vae")
    return tmp_path / "vae"


def test_drawn_conditions_are_captions_of_the_drawn_clips(tmp_path, vae):
    config = FlowRun(vae=str(vae), text=str(TINY), model=MODEL, world=WORLD, captions=3, text_dropout=0.25)
    data = cached_flow(config, tmp_path / "run", quiet).data
    latents, condition = data.bank.draw(400, torch.Generator().manual_seed(0))
    drawn = condition()
    texts = captions_of(WORLD, 0, 512, 3)[:36]
    direct = data.clips.embed([*texts, ""])
    length = drawn["text"].shape[1]
    assert length == int(direct["text_mask"][:36].sum(1).max())
    known = {tuple(row.tolist()): index for index, row in enumerate(direct["pooled_text"])}
    rows = [known[tuple(row.tolist())] for row in drawn["pooled_text"]]
    assert 70 < rows.count(36) < 130 and len(set(rows)) > 30
    for latent, row in zip(latents, rows, strict=True):
        assert row == 36 or torch.equal(latent, data.clips.latents[row // 3].float())
    assert torch.equal(drawn["text_mask"], direct["text_mask"][rows][:, :length])
    valid = drawn["text_mask"][..., None]
    torch.testing.assert_close(drawn["text"] * valid, direct["text"][rows][:, :length] * valid, rtol=2e-3, atol=2e-3)


def test_a_run_draws_from_the_bank_and_repeats_itself(tmp_path, vae):
    losses = []
    for name in ("a", "b"):
        content = {"kind": "flow", "output": str(tmp_path / name), "vae": str(vae), "text": str(TINY), "model": MODEL,
                   "world": vars(WORLD), "captions": 2, "eval_prompts": 0, "optimizer": {"lr": 3e-3, "muon_lr": 3e-3},
                   "loop": {"steps": 4, "batch": 4, "log_every": 1, "sheet_every": 0, "precision": "fp32"}}  # fmt: skip
        (tmp_path / "flow.yaml").write_text(json.dumps(content))
        lines = []
        run(tmp_path / "flow.yaml", report=lines.append)
        losses.append(
            [json.loads(line)["loss"] for line in (tmp_path / name / "log.jsonl").read_text().splitlines()[:4]]
        )
        assert any(line.startswith("embedding captions") for line in lines) == (name == "a")  # then on disk
    assert losses[0] == losses[1]
