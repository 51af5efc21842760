"""The dry run: counts against closed forms, memory by layout, a plan of the 13B recipe, data held against the model."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from hunyuan_video.data.buckets import Bucket
from hunyuan_video.data.encode import EncodeRequest, encode
from hunyuan_video.distributed.config import ParallelConfig
from hunyuan_video.errors import UserError
from hunyuan_video.models import HunyuanVideoTransformer, TransformerConfig
from hunyuan_video.models.grid import Grid
from hunyuan_video.planning.cost import cost_of, parameters_of
from hunyuan_video.planning.plan import Machine, activation_bytes, memory_per_rank
from hunyuan_video.training.config import LoopConfig, StageConfig, StagesRun, load_config
from hunyuan_video.training.dry_run import plan_stages
from hunyuan_video.training.run import run

LARGE = TransformerConfig(guidance_embed=False)
SMALL = TransformerConfig(hidden_size=64, num_heads=2, double_blocks=2, single_blocks=3, rope_dims=(8, 12, 12),
                          text_dim=8, pooled_text_dim=6, guidance_embed=False)  # fmt: skip


def block_flops(config, video, text, batch):
    """2 x weights x tokens of every product in the blocks, and 4 S^2 D of every attention."""
    width, mlp, total = config.hidden_size, config.mlp_width, video + text
    linear = 4 * width * width + 2 * width * mlp  # a stream's qkv, projection and MLP
    attention = 4 * total * total * width
    double = 2 * total * linear + attention + 2 * 12 * width * width  # two modulations of 6 vectors, once a sample
    single = 2 * total * linear + attention + 2 * 3 * width * width
    return batch * (config.double_blocks * double + config.single_blocks * single)


@pytest.mark.parametrize(("config", "bucket", "batch"), [(LARGE, "129x720x1280", 1), (SMALL, "5x64x32", 3)])
def test_flops_are_those_of_the_products_and_the_attention(config, bucket, batch):
    cost = cost_of(config, Bucket.parse(bucket, Grid()), Grid(), batch, text_length=256)
    video = cost.tokens - 256
    assert cost.block_flops == pytest.approx(block_flops(config, video, 256, batch), rel=1e-6)
    assert cost.block_flops < cost.flops < 1.6 * cost.block_flops
    assert cost.flops_of_training("none") == 3 * cost.flops
    assert cost.flops_of_training("blocks") == 3 * cost.flops + cost.block_flops


def test_parameters_of_the_13b_model():
    sizes = parameters_of(LARGE)
    assert sum(sizes.values()) == pytest.approx(12.81e9, rel=1e-3)
    with torch.device("meta"):
        assert len(sizes) == len(list(HunyuanVideoTransformer(LARGE).parameters()))


def test_recomputing_keeps_less():
    cost = cost_of(LARGE, Bucket(65, 256, 256), Grid(), 1)
    none, selective, blocks = (cost.activations(mode) for mode in ("none", "selective", "blocks"))
    assert blocks < selective < none
    assert blocks < cost.activations("blocks", every=2) < none
    assert len(cost.kept) == 60
    split = ParallelConfig(recompute="blocks", sequence=8)
    assert activation_bytes(cost, split) < 0.5 * blocks


def test_memory_by_layout():
    sizes = parameters_of(LARGE)
    count = sum(sizes.values())
    alone = memory_per_rank(sizes, ParallelConfig(), "fp32", 8, muon=False)
    assert sum(alone.values()) == pytest.approx(20 * count)
    sharded = ParallelConfig(fsdp=True)
    memory = memory_per_rank(sizes, sharded, "bf16", 8, muon=False)
    assert memory["optimizer"] == count and memory["weights"] == count / 2
    assert 1e9 < memory["gathered"] < 4e9
    with_muon = memory_per_rank(sizes, sharded, "bf16", 8, muon=True)
    assert with_muon["optimizer"] < 0.6 * memory["optimizer"]
    offloaded = ParallelConfig(fsdp=True, offload_optimizer=True)
    assert memory_per_rank(sizes, offloaded, "bf16", 8, muon=False).keys() == {"gathered", "host"}


def test_the_13b_recipe_is_planned_and_its_missing_data_named(request, monkeypatch, tmp_path):
    config = load_config(request.config.rootpath / "recipes/progressive.yaml", ("data=nowhere",))
    config = dataclasses.replace(config, stages=(config.stages[0], config.stages[-1]), aspects=("1:1", "16:9"))
    lines = []
    with pytest.raises(UserError, match="nowhere: no encoded data set"):
        plan_stages(config, Machine("H100", 256), lines.append)
    text = "\n".join(lines)
    assert "12,810.8 M parameters; 256 x H100" in text and "129x720x1280 x 1" in text
    assert text.count("fits") == 2 and "days" in text


def test_too_little_memory_is_reported():
    config = one_stage(parallel={})
    lines = []
    config = dataclasses.replace(config, model={**dataclasses.asdict(LARGE), "text_dim": 128, "pooled_text_dim": 96})
    plan_stages(config, Machine("RTX4090", 1), lines.append)
    assert "DOES NOT FIT" in "\n".join(lines)


def one_stage(parallel=None):
    stage = StageConfig(steps=1, anchors=(16,), max_batch=1)
    parallel = ParallelConfig(**(parallel or {}))
    return StagesRun(stages=(stage,), aspects=("1:1",), loop=LoopConfig(parallel=parallel))


def test_mistakes_are_named():
    config = one_stage()
    with pytest.raises(UserError, match="--gpu must be one of A100"):
        Machine("H300")
    with pytest.raises(UserError, match=r"stages\[0\]: sequence = 3 must divide the 4 ranks"):
        plan_stages(one_stage(parallel={"sequence": 3}), Machine("H100", 4), print)
    with pytest.raises(UserError, match="model: .*hidden_size 10 does not divide"):
        plan_stages(dataclasses.replace(config, model={"hidden_size": 10, "num_heads": 3}), Machine(), print)
    with pytest.raises(UserError, match=r"stages\[0\]: the data has 128 where model.text_dim is 4096"):
        plan_stages(config, Machine(), lambda line: None)


def test_other_kinds_name_what_is_missing(tmp_path):
    path = tmp_path / "flow.yaml"
    path.write_text(json.dumps({"kind": "flow", "vae": "nowhere/vae", "text": str(tmp_path)}))
    lines = []
    run(path, dry_run=True, report=lines.append)
    assert "a valid flow run" in lines[-2] and lines[-1] == "  vae: nowhere/vae is not there yet"


def dry_run(tmp_path, settings):
    path, lines = tmp_path / "run.yaml", []
    path.write_text(json.dumps(settings))
    run(path, dry_run=True, report=lines.append)
    return "\n".join(lines)


def test_the_data_of_an_encoded_run_is_opened(tmp_path):
    folder = str(tmp_path / "data")
    encode(EncodeRequest("toyworld:narrow", Path(folder), ("5x16x16",), clips=6), lambda line: None)
    sizes = {"hidden_size": 32, "num_heads": 2, "double_blocks": 1, "single_blocks": 1, "rope_dims": [4, 6, 6],
             "refiner_depth": 1, "text_dim": 128, "pooled_text_dim": 96}  # fmt: skip
    settings = {"kind": "flow_encoded", "data": folder, "held_out": 2, "model": sizes, "loop": {"steps": 5, "batch": 8}}
    assert "5x16x16: 4 clips, each read 10 times\ntransformer: 0.1 M parameters" in dry_run(tmp_path, settings)
    with pytest.raises(UserError, match="5x16x16: the data has 128 where model.text_dim is 64; set it to 128"):
        dry_run(tmp_path, {**settings, "model": {**sizes, "text_dim": 64}})
    with pytest.raises(UserError, match="held_out 6 leaves nothing"):
        dry_run(tmp_path, {**settings, "held_out": 6})
    stage = {"steps": 1, "anchors": [16], "frames": [5], "max_batch": 1}
    stages = {"kind": "stages", "data": folder, "model": sizes, "stages": [stage], "aspects": ["1:1"]}
    assert "a sample of every stage was drawn" in dry_run(tmp_path, stages)
    for kind in (settings, stages):
        assert dry_run(tmp_path, {**kind, "data": "nowhere"}).endswith("\n  data: nowhere is not there yet")
    description = json.loads((tmp_path / "data/dataset.json").read_text())
    (tmp_path / "data/dataset.json").write_text(json.dumps({**description, "text": "another"}))
    with pytest.raises(UserError, match="another text encoder"):
        dry_run(tmp_path, stages)


def test_the_clips_of_a_vae_run_are_opened(tmp_path):
    settings = {"kind": "vae_stages", "clips": 8, "held_out": 2, "source_frames": 5, "source_size": 16,
                "stages": [{"steps": 3, "frames": 5, "size": 16, "batch": 4}], "loop": {"steps": 3}}  # fmt: skip
    assert "8 clips for training, 2 held out; 12 samples in 3 steps" in dry_run(tmp_path, settings)
    with pytest.raises(UserError, match="the worlds are"):
        dry_run(tmp_path, {**settings, "data": "toyworld:nowhere"})
    assert dry_run(tmp_path, {**settings, "data": "a/b.jsonl"}).endswith("\n  data: a/b.jsonl is not there yet")
    for number in range(12):
        (tmp_path / f"{number}.png").write_bytes(b"no picture")
        (tmp_path / f"{number}.txt").write_text("nothing")
    with pytest.raises(UserError, match="none of its 10 clips can be read"):
        dry_run(tmp_path, {**settings, "data": str(tmp_path)})


def test_settings_of_a_text_run_are_read(tmp_path):
    assert "a valid text run" in dry_run(tmp_path, {"kind": "text"})
    with pytest.raises(UserError, match="world must be one of"):
        dry_run(tmp_path, {"kind": "text", "world": "nowhere"})
    with pytest.raises(UserError, match="settings: clip: steps must be at least 1, got 0"):
        dry_run(tmp_path, {"kind": "text", "settings": {"clip": {"steps": 0}}})
    with pytest.raises(UserError, match="settings: clip: clips and batch must be at least"):
        dry_run(tmp_path, {"kind": "text", "settings": {"clip": {"batch": 1}}})
    with pytest.raises(UserError, match="settings: language_model: hidden_size 128 must be a multiple of heads = 3"):
        dry_run(tmp_path, {"kind": "text", "settings": {"language_model": {"heads": 3}}})
