"""One rank or several: the same losses, the same weights; saved on two ranks, continued on one."""

import json

import pytest
import torch
from several_ranks import on_ranks
from small_transformer import SmallTask

from hunyuan_video.models import HunyuanVideoTransformer
from hunyuan_video.training.config import LoopConfig, OptimizerConfig, ParallelConfig
from hunyuan_video.training.loop import train

LOOP = {"steps": 4, "batch": 4, "micro_batches": 2, "save_every": 2, "sheet_every": 0, "log_every": 1}
OPTIMIZER = OptimizerConfig(lr=1e-2, muon_lr=1e-2, warmup_steps=2, ema=0.5)


def quiet(line):
    pass


def losses(rank, folder, parallel, resume=False, steps=4, precision="fp32"):
    """The losses of a run, from its log."""
    loop = LoopConfig(**{**LOOP, "steps": steps}, precision=precision, parallel=ParallelConfig(**parallel))
    train(SmallTask(2), loop, OPTIMIZER, folder, resume, quiet)
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone") / "run"
    return folder, losses(0, folder, {})


def distance(one, other):
    """How far two exported transformers are apart, as a share of the way that training went."""
    start = flat(SmallTask(2).network)
    a, b = (flat(HunyuanVideoTransformer.from_pretrained(folder / "export")) for folder in (one, other))
    return ((a - b).norm() / (a - start).norm()).item()


def flat(network):
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


@pytest.mark.parametrize("parallel", [{}, {"fsdp": True}], ids=["replicated", "fsdp"])
def test_two_ranks_repeat_the_run_of_one(tmp_path, alone, parallel):
    folder = tmp_path / "run"
    two = on_ranks(2, losses, folder, parallel)[0]
    assert two == pytest.approx(alone[1], rel=2e-5)
    assert distance(alone[0], folder) < 0.02  # Muon turns rounding of tiny gradients into steps
