"""Evaluations, sheets and exports need at most 1.1 times the memory of a training step: bytes that torch has live."""

import gc
import json

import pytest
import torch
from helpers.small_parts import TINY

import hunyuan_video.data.cache as cache
from hunyuan_video.cli import main
from hunyuan_video.distributed.config import ParallelConfig
from hunyuan_video.distributed.ranks import join_ranks
from hunyuan_video.training.checkpoint import Checkpoints
from hunyuan_video.training.ema import EMA
from hunyuan_video.training.loop import Trainer
from hunyuan_video.training.run import run

LIMIT = 1.1
LOOP = {"steps": 2, "batch": 4, "precision": "fp32", "log_every": 1, "save_every": 2}
SMALL_WORLD = {"name": "narrow", "clips": 8, "size": 32}
JUDGED = {"world": SMALL_WORLD, "vae": str(TINY / "vae"), "text": str(TINY), "eval_prompts": 9}
RUNS = {
    "flow": {"kind": "flow", "init_from": str(TINY / "transformer"), "sample_steps": 2, **JUDGED},
    "dmd": {"kind": "step_distillation", "method": "dmd", "teacher": str(TINY / "transformer"), "rank": 8, "steps": 2,
            "fake_updates": 1, "guidance_scale": 3.0, **JUDGED},
    "lora": {"kind": "flow_encoded", "data": "data", "checkpoint": "tiny", "init_from": str(TINY / "transformer"),
             "held_out": 6, "sample_steps": 2, "lora": {"rank": 4}},
    "vae": {"kind": "vae_stages", "init_from": str(TINY / "vae"), "data": "toyworld:narrow",
            "clips": 8,
            "held_out": 4, "source_size": 32, "weight_perceptual": 0.0,
            "stages": [{"steps": 2, "frames": 9, "size": 32, "batch": 1}]},
}  # fmt: skip


class Peaks:
    """Most bytes that torch had live in each method of the trainer, above those at the start of the run.

    torch's profiler counts the thread it is in, so checkpoints are written in this one.
    """

    def __init__(self, monkeypatch):
        for name in ("step", "evaluate"):
            method = getattr(Trainer, name)
            monkeypatch.setattr(Trainer, name, self.marked(name, method))
        monkeypatch.setattr(Checkpoints, "save", self.save)

    @staticmethod
    def save(checkpoints, step, tensors, run):
        copies = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        checkpoints._write(step, copies, {**run, "step": step})

    @staticmethod
    def marked(name, method):
        def call(*args):
            with torch.profiler.record_function(f"phase {name}"):
                return method(*args)

        return call

    def of(self, function):
        gc.collect()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
            function()
        events = profile.profiler.kineto_results.events()
        spans = [(e.start_ns(), e.start_ns() + e.duration_ns(), e.name()[6:]) for e in events
                 if e.name().startswith("phase ")]  # fmt: skip
        live, peaks = 0, {}
        for time, size in sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"):
            live += size
            for start, end, name in spans:
                if start <= time <= end:
                    peaks[name] = max(peaks.get(name, 0), live)
        return peaks


@pytest.mark.parametrize("kind", RUNS)
def test_an_evaluation_needs_no_more_than_a_step(kind, tmp_path, monkeypatch):
    if not (TINY / "sampling.json").exists():
        pytest.skip("the bundled checkpoint is not in this tree")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cache, "SHARD", 8)
    if RUNS[kind].get("data") == "data":
        bucket = ("--bucket", "17x64x64", "--captions", "1", "--clips", "10")
        assert main(["encode", "toyworld:narrow", "-o", "data", *bucket]) == 0
    settings = {"output": "runs/run", "loop": {**LOOP, "batch": 8 if kind == "flow" else 4}, **RUNS[kind]}
    (tmp_path / "run.yaml").write_text(json.dumps(settings))
    peaks = Peaks(monkeypatch).of(lambda: run("run.yaml", report=lambda line: None))
    if "world" in RUNS[kind]:  # distribution matching reads captions only
        assert (tmp_path / "runs/latents").exists() == (kind != "dmd")
    assert peaks["evaluate"] <= LIMIT * peaks["step"], {name: f"{peak / 1e6:.1f} MB" for name, peak in peaks.items()}


def test_a_checkpoints_copy_is_gone_when_it_is_written(tmp_path):
    checkpoints = Checkpoints(tmp_path, 1, join_ranks("cpu", ParallelConfig()), lambda line: None)
    checkpoints.save(1, {"weight": torch.ones(1, 77777)}, {})
    checkpoints.wait()
    assert not [tensor for tensor in gc.get_objects() if type(tensor) is torch.Tensor and tensor.shape == (1, 77777)]
    checkpoints.close()


def test_averages_and_weights_change_places():
    network = torch.nn.Linear(3, 2)
    ema = EMA(network, 0.9)
    with torch.no_grad():
        network.weight.add_(1)
    average, live = ema.weights["weight"].clone(), network.weight.detach().clone()
    with pytest.raises(ZeroDivisionError), ema.in_place_of(network):
        assert torch.equal(network.weight, average) and not torch.equal(average, live)
        raise ZeroDivisionError
    assert torch.equal(network.weight, live) and torch.equal(ema.weights["weight"], average)
