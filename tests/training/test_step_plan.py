"""Memory of a training step, counted without values, against torch's own account of the same step with values."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from torch.profiler import ProfilerActivity, profile

from hunyuan_video.planning.plan import Machine
from hunyuan_video.training.config import EncodedFlowRun, LoopConfig, LoRAConfig, OptimizerConfig
from hunyuan_video.training.loop import Trainer
from hunyuan_video.training.run import run
from hunyuan_video.training.step_plan import plan_step, step_bytes
from hunyuan_video.training.tasks.without_data import Clip, task_without_data

MODEL = {"hidden_size": 64, "num_heads": 2, "double_blocks": 2, "single_blocks": 2, "rope_dims": [8, 12, 12],
         "text_dim": 16, "pooled_text_dim": 16, "refiner_depth": 1, "guidance_embed": False}  # fmt: skip
CLIP = Clip((16, 3, 16, 16), 24)


def flow_run(precision="fp32", **changes):
    loop = LoopConfig(steps=4, batch=2, precision=precision, micro_batches=1)
    return EncodedFlowRun(model=MODEL, loop=loop, **changes)


def profiled_peak(config, folder: Path) -> int:
    """Bytes that a second step adds to those that are there before it, at most."""
    trainer = Trainer(task_without_data(config, [CLIP]), config.loop, OptimizerConfig(), folder, lambda line: None)
    trainer.step(0)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        trainer.step(1)
    trainer.checkpoints.close()
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


def test_a_step_is_counted_as_torch_counts_it(tmp_path):
    config = flow_run()
    counted = step_bytes(config, None, [CLIP])(config.loop)
    task = task_without_data(config, [CLIP])
    weights = sum(parameter.numel() for parameter in task.network.parameters())
    assert counted.standing == pytest.approx(16 * weights, rel=0.1)  # weights, AdamW's two, average, in float32
    assert counted.passing == pytest.approx(profiled_peak(config, tmp_path), rel=0.1)


def test_an_adapter_takes_less_and_what_does_not_fit_gets_a_remedy(tmp_path):
    base = flow_run()
    task_without_data(base, [CLIP]).network.save_pretrained(tmp_path / "base")
    adapter = flow_run(init_from=str(tmp_path / "base"), lora=LoRAConfig(rank=2))
    whole, small = (step_bytes(run, None, [CLIP])(run.loop) for run in (base, adapter))
    frozen = sum(weight.numel() for weight in task_without_data(base, [CLIP]).network.parameters())
    assert 4 * frozen < small.standing < 0.5 * whole.standing and small.peak < whole.peak
    lines = []
    plan_step(base, Machine("RTX3060", 1), lines.append, [CLIP])
    assert "of 11.0 GB of 1 x RTX3060 (fits)" in lines[0]
    plan_step(flow_run("bf16"), Machine("RTX3060", 1), lines.append, [Clip((16, 129, 90, 160), 256)])
    assert "(DOES NOT FIT)" in lines[1] and "with loop.parallel.recompute=blocks it takes" in lines[2]


@pytest.mark.parametrize("kind", ["vae", "vae_stages"])
def test_a_dry_run_of_a_vae_plans_its_step(tmp_path, kind):
    sizes = {"block_out_channels": [8, 8, 8, 8], "norm_groups": 4, "layers_per_block": 1}
    settings = {
        "kind": kind,
        "model": sizes,
        "output": str(tmp_path / "out"),
        "loop": {"steps": 2, "precision": "fp32"},
    }
    if kind == "vae_stages":
        stage = {"steps": 2, "frames": 5, "size": 16, "batch": 2}
        settings |= {"clips": 4, "held_out": 1, "source_frames": 5, "source_size": 16, "stages": [stage],
                     "weight_perceptual": 0.0, "discriminator_width": 8}  # fmt: skip
    path, lines = tmp_path / "run.yaml", []
    path.write_text(json.dumps(settings))
    run(path, dry_run=True, report=lines.append)
    assert any(line.startswith("  memory of a step: ") and line.endswith("(fits)") for line in lines)
    assert not (tmp_path / "out").exists()
