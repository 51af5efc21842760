"""Runs that are killed: continued, they end with the same bits as an unbroken run."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.elastic_run import LOOP, OPTIMIZER, SHARDED
from helpers.several_ranks import PATIENCE, PROCESSES, on_ranks
from helpers.small_transformer import SmallTask

from hunyuan_video.errors import UserError
from hunyuan_video.training.auxiliary import AuxiliaryNetwork
from hunyuan_video.training.config import LoopConfig, OptimizerConfig
from hunyuan_video.training.loop import Trainer, train

ROOT = Path(__file__).resolve().parents[2]


def quiet(line):
    pass


class Kills(SmallTask):
    """Draws from the generators of torch, random and numpy; the process dies at a step."""

    def __init__(self, step=None):
        super().__init__(4)
        self.last = step

    def loss(self, step, generator):
        if step == self.last:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().loss(step, generator)


def until_killed(folder, step, resume):
    torch.set_num_threads(1)
    train(Kills(step), LOOP, OPTIMIZER, folder, resume, quiet)


def process(folder, step, resume):
    """Trains in a process of its own; its exit code."""
    child = PROCESSES.Process(target=until_killed, args=(folder, step, resume))
    child.start()
    child.join(PATIENCE)
    return child.exitcode


def state_on_disk(folder):
    """Every tensor of the last checkpoint: weights, optimizer, average."""
    trainer = Trainer(SmallTask(4), LOOP, OPTIMIZER, folder, quiet)
    assert trainer.restore() == LOOP.steps
    trainer.checkpoints.close()
    average = {f"average/{name}": weight for name, weight in trainer.ema.weights.items()}
    return {**trainer.main.state(), **average}


def assert_same(one, other):
    a, b = state_on_disk(one), state_on_disk(other)
    assert a.keys() == b.keys() and any(name.endswith("exp_avg") for name in a)
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    train(SmallTask(4), LOOP, OPTIMIZER, folder, False, quiet)
    return folder


def test_killed_and_resumed_is_bitwise_the_unbroken_run(tmp_path, unbroken):
    folder = tmp_path / "run"
    for attempt, step in enumerate((1, 4, 7, None)):
        code = process(folder, step, attempt > 0)
        assert code == (0 if step is None else -signal.SIGKILL)
    assert_same(unbroken, folder)


def unbroken_on_two(rank, folder, loop):
    train(SmallTask(2), loop, OPTIMIZER, folder, False, quiet)


@pytest.mark.parametrize("layout", ["replicated", "fsdp"])
def test_a_lost_rank_restarts_the_run_from_its_last_checkpoint(tmp_path, layout):
    script = ROOT / "tests" / "helpers" / "elastic_run.py"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
               "--max-restarts", "1", str(script), str(tmp_path / "run"), layout]  # fmt: skip
    paths = os.pathsep.join(str(ROOT / folder) for folder in (".", "python", "tests"))
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=PATIENCE)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-8000:]
    assert "resumed at step" in done.stdout and f"step 8/{LOOP.steps}" in done.stdout
    on_ranks(2, unbroken_on_two, tmp_path / "unbroken", SHARDED if layout == "fsdp" else LOOP)
    assert_same(tmp_path / "unbroken", tmp_path / "run")


class Distils(SmallTask):
    """A task with a second network, trained in the loss, a tensor and a number of its own."""

    def __init__(self):
        super().__init__(4)
        torch.manual_seed(3)
        self.judge = torch.nn.Linear(4, 1)
        self.auxiliary = {"judge": AuxiliaryNetwork(self.judge, OptimizerConfig(lr=0.1, warmup_steps=0))}
        self.mean, self.calls = torch.zeros(4), 0

    def loss(self, step, generator):
        x = torch.randn(5, 4, generator=generator)
        self.auxiliary["judge"].update((self.judge(x) - x.sum(1, keepdim=True)).square().mean(), step)
        self.mean, self.calls = 0.9 * self.mean + x.mean(0), self.calls + 1
        loss, parts = super().loss(step, generator)
        return loss * (1 + self.mean.square().sum()), parts

    def extra_state(self):
        return {"mean": self.mean, "calls": self.calls}

    def load_extra_state(self, state):
        self.mean, self.calls = state["mean"], state["calls"]


def test_auxiliary_networks_and_extra_state_are_resumed_bitwise(tmp_path):
    whole, first, second = Distils(), Distils(), Distils()
    train(whole, LOOP, OPTIMIZER, tmp_path / "whole", False, quiet)
    stopped = first.loss

    def stops(step, generator):
        if step == 5:
            raise KeyboardInterrupt
        return stopped(step, generator)

    first.loss = stops
    with pytest.raises(KeyboardInterrupt):
        train(first, LOOP, OPTIMIZER, tmp_path / "run", False, quiet)
    train(second, LOOP, OPTIMIZER, tmp_path / "run", True, quiet)
    assert second.calls == whole.calls == LOOP.steps and torch.equal(second.mean, whole.mean)
    for a, b in zip((*whole.network.parameters(), *whole.judge.parameters()),
                    (*second.network.parameters(), *second.judge.parameters()), strict=True):  # fmt: skip
        assert torch.equal(a, b)
    assert not torch.equal(whole.judge.weight, Distils().judge.weight)


def test_skipped_steps_are_counted_across_a_restart(tmp_path):
    loop = LoopConfig(steps=6, batch=4, save_every=2, max_skipped=2, precision="fp32")
    lines = []
    with pytest.raises(UserError, match=r"step 4: 3 steps had a NaN .*max_skipped = 2"):
        train(SmallTask(4, poison=(1, 3, 4)), loop, OPTIMIZER, tmp_path, False, lines.append)
    with pytest.raises(UserError, match="step 4"):
        train(SmallTask(4, poison=(4,)), loop, OPTIMIZER, tmp_path, True, lines.append)
    assert any(line == "resumed at step 4" for line in lines)


def test_changed_data_order_is_said(tmp_path):
    train(SmallTask(4), LoopConfig(steps=1, batch=4), OPTIMIZER, tmp_path, False, quiet)
    lines = []
    train(SmallTask(2), LoopConfig(steps=1, batch=2, seed=1), OPTIMIZER, tmp_path, True, lines.append)
    assert any("seed was 0, is 1" in line for line in lines) and any("batch was 4, is 2" in line for line in lines)
