"""Runs that end after a time: the rates follow it, checkpoints keep it, a resumed run uses what is left."""

import pytest
import torch
from torch import nn

from hunyuan_video.distributed.ranks import join_ranks
from hunyuan_video.errors import UserError
from hunyuan_video.training import pace
from hunyuan_video.training.config import LoopConfig, OptimizerConfig
from hunyuan_video.training.config.building import build
from hunyuan_video.training.loop import train
from hunyuan_video.training.report import read_log

LOOP = LoopConfig(
    steps=1000, max_seconds=20.0, save_every=4, sheet_every=0, log_every=1, micro_batches=1, precision="fp32"
)


def quiet(line):
    pass


class Line:
    """A task whose every step takes two seconds of a clock that only it moves; a chosen step fails."""

    def __init__(self, monkeypatch, fails=None):
        self.now, self.fails, self.exported = 100.0, fails, 0
        monkeypatch.setattr(pace.time, "monotonic", lambda: self.now)
        torch.manual_seed(1)
        self.network = nn.Linear(3, 1)

    def loss(self, step, generator):
        if step == self.fails:
            raise KeyboardInterrupt
        self.now += 2.0
        return self.network(torch.ones(2, 3)).square().mean(), {}

    def evaluate(self, step, folder):
        return {"steps": float(step)}

    def export(self, folder):
        self.exported += 1


def test_a_run_ends_after_its_seconds_and_its_rate_falls_with_them(tmp_path, monkeypatch):
    task = Line(monkeypatch)
    lines = []
    metrics = train(task, LOOP, OptimizerConfig(warmup_steps=1, decay=0.5), tmp_path, False, lines.append)
    assert metrics == {"steps": 10.0} and task.exported == 1
    rates = [line["lr"] for line in read_log(tmp_path) if "lr" in line]
    assert rates == pytest.approx([1, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2])
    assert any(line.startswith("step 10/1000") for line in lines)


def test_steps_end_a_run_before_its_seconds(tmp_path, monkeypatch):
    loop = LoopConfig(**{**vars(LOOP), "steps": 4})
    assert train(Line(monkeypatch), loop, OptimizerConfig(), tmp_path, False, quiet) == {"steps": 4.0}


def test_a_resumed_run_has_the_seconds_that_are_left(tmp_path, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        train(Line(monkeypatch, fails=6), LOOP, OptimizerConfig(), tmp_path, False, quiet)  # saved after step 4
    task = Line(monkeypatch)
    assert train(task, LOOP, OptimizerConfig(), tmp_path, True, quiet) == {"steps": 10.0}
    assert task.now == 100.0 + 6 * 2.0
    again = Line(monkeypatch)
    train(again, LOOP, OptimizerConfig(), tmp_path, True, quiet)
    assert again.now == 100.0 and again.exported == 0  # it was finished


@pytest.mark.parametrize("changes", [{}, {"device": "cuda", "micro_batches": 2, "batch": 2}])
def test_graphs_are_refused_where_they_cannot_be_recorded(tmp_path, monkeypatch, changes):
    loop = LoopConfig(**{**vars(LOOP), "cuda_graphs": True, **changes})
    monkeypatch.setattr("hunyuan_video.training.loop.join_ranks", lambda device, parallel: join_ranks("cpu", parallel))
    with pytest.raises(UserError, match="loop.cuda_graphs records the passes of one micro-batch on one GPU"):
        train(Line(monkeypatch), loop, OptimizerConfig(), tmp_path, False, quiet)


def test_negative_seconds_are_refused():
    with pytest.raises(UserError, match="max_seconds must be at least 0"):
        build(LoopConfig, {"max_seconds": -1}, "loop")
