"""Reports of a run: the line, log.jsonl, TensorBoard and W&B (stand-ins for both), messages where they are missing."""

import contextlib
import json
import math
import re
import sys
import types

import pytest
import torch
from helpers.small_transformer import SmallTask

from hunyuan_video.errors import UserError
from hunyuan_video.training.config import LoopConfig, OptimizerConfig
from hunyuan_video.training.loop import train
from hunyuan_video.training.report import Report, duration, evaluated, read_log

LOOP = LoopConfig(steps=4, batch=2, log_every=2, save_every=4, sheet_every=2, precision="fp32")


def test_line_and_log(tmp_path):
    lines = []
    train(SmallTask(2, poison=(2,)), LOOP, OptimizerConfig(), tmp_path, False, lines.append)
    assert re.fullmatch(
        r"step 2/4 \| loss \d\.\d{4} grad \d\.\d{4} \| \d+\.\d\d samples/s \| \d+s left \| \d\.\d\d GB", lines[0]
    )
    assert lines[1].startswith('step 2 evaluation: {"sum":') and "skipped 1 |" in lines[2]
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [2, 2, 4, 4] and log[2]["skipped"] == 1
    assert {"loss", "grad", "lr", "samples_per_s", "memory_gb"} <= set(log[0]) and "sum" in log[1]["evaluation"]


def test_samples_of_varying_micro_batches_are_counted(tmp_path):
    loop = LoopConfig(steps=2, batch=8, micro_batches=2, log_every=2)
    report = Report(loop, tmp_path, 0, lambda line: None, True)
    report.step(1, {"loss": 1.0, "samples": 3.0}, {})
    report.step(2, {"loss": 1.0, "samples": 1.5}, {})
    report.close()
    assert report.samples == 9.0


def test_a_skipped_step_leaves_the_numbers_of_the_others(tmp_path):
    lines = []
    report = Report(LoopConfig(steps=3, log_every=3), tmp_path, 0, lines.append, True)
    for step, loss in enumerate((1.0, math.nan, 2.0), 1):
        report.step(step, {"loss": loss, "grad": math.nan}, {})
    report.evaluation(3, {"camera": math.nan, "rows": {"x": math.inf}})
    report.close()
    assert "loss 1.5000 grad nan" in lines[0] and lines[1].endswith('{"camera": null, "rows": {"x": null}}')

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    log = [json.loads(line, parse_constant=refuse) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert log[0]["loss"] == 1.5 and log[0]["grad"] is None


def test_a_line_that_a_kill_cut_off_is_passed_over(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 4, "evaluation": {}}\n{"step": 8, "evalua')
    assert evaluated(tmp_path, 4) and not evaluated(tmp_path, 8) and not evaluated(tmp_path / "absent", 4)


@pytest.mark.parametrize(("seconds", "text"), [(12, "12s"), (220, "3m40s"), (7512, "2h05m"), (360000, "100h00m")])
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_tensorboard_and_wandb_get_the_numbers(tmp_path, monkeypatch):
    scalars, logged, closed = [], [], []

    class Writer:
        def __init__(self, log_dir, purge_step):
            assert log_dir == str(tmp_path / "tensorboard") and purge_step == 1

        def add_scalar(self, name, value, step):
            scalars.append((name, step))

        def close(self):
            closed.append("board")

    wandb_run = types.SimpleNamespace(
        log=lambda values, step: logged.append((step, values)), finish=lambda: closed.append("run")
    )
    fake = types.ModuleType("wandb")
    fake.init = lambda project, **settings: wandb_run if project == "videos" else None
    board = types.ModuleType("torch.utils.tensorboard")
    board.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", board)
    report = Report(LoopConfig(steps=1, tensorboard=True, wandb="videos"), tmp_path, 0, lambda line: None, True)
    report.step(1, {"loss": 2.0}, {"lr": 0.5})
    report.evaluation(1, {"psnr": 30.0})
    report.close()
    assert ("loss", 1) in scalars and ("evaluation/psnr", 1) in scalars
    assert logged[0][1]["loss"] == 2.0 and logged[1] == (1, {"evaluation/psnr": 30.0})
    assert closed == ["board", "run"]


@pytest.mark.parametrize(
    ("module", "settings", "words"),
    [
        ("torch.utils.tensorboard", {"tensorboard": True}, "pip install tensorboard"),
        ("wandb", {"wandb": "videos"}, "pip install wandb"),
    ],
)
def test_missing_packages_are_named(tmp_path, monkeypatch, module, settings, words):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=words):
        Report(LoopConfig(**settings), tmp_path, 0, lambda line: None, True)


def test_other_ranks_are_silent(tmp_path):
    report = Report(LoopConfig(steps=1, wandb="videos"), tmp_path, 0, lambda line: 1 / 0, False)
    report.step(1, {"loss": 1.0}, {})
    report.evaluation(1, {})
    report.close()
    assert not (tmp_path / "log.jsonl").exists()


def test_a_full_disk_while_exporting_stops_the_run_with_one_line(tmp_path):
    class Full(SmallTask):
        def export(self, folder):
            raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="disk is full; make room and continue with --resume"):
        train(Full(2), LOOP, OptimizerConfig(), tmp_path, False, lambda line: None)


@pytest.mark.parametrize("error", [OSError(28, "No space left"), UserError("no clip can be read"), ZeroDivisionError()])
def test_a_failed_evaluation_is_told_and_loses_nothing(tmp_path, error):
    class Fails(SmallTask):
        def evaluate(self, step, folder):
            assert (folder / "export").exists()  # written before
            if step == 2:
                raise error
            return super().evaluate(step, folder)

    lines, task = [], Fails(2)
    train(task, LOOP, OptimizerConfig(), tmp_path / "run", False, lines.append)
    assert any(f"step 2: the evaluation failed ({type(error).__name__}" in line for line in lines)
    failed = [line for line in read_log(tmp_path / "run") if "evaluation_failed" in line]
    assert [line["step"] for line in failed] == [2] and "in evaluate" in failed[0]["traceback"]
    assert evaluated(tmp_path / "run", 4) and not evaluated(tmp_path / "run", 2)
    other = SmallTask(2)
    train(other, LOOP, OptimizerConfig(), tmp_path / "other", False, lambda line: None)
    pairs = zip(task.network.parameters(), other.network.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_the_log_of_a_continued_run_has_each_step_once(tmp_path):
    class Killed(SmallTask):
        at = 0

        def loss(self, step, generator):
            if step == self.at:
                raise KeyboardInterrupt
            return super().loss(step, generator)

        def evaluate(self, step, folder):
            if -step == self.at:
                raise KeyboardInterrupt
            return super().evaluate(step, folder)

    loop = LoopConfig(steps=9, batch=2, log_every=1, save_every=3, sheet_every=3, precision="fp32")
    train(SmallTask(2), loop, OptimizerConfig(), tmp_path / "whole", False, lambda line: None)
    for at in (5, -6, 8, -9, 99):  # between checkpoints, and between a checkpoint and its evaluation
        task = Killed(2)
        task.at = at
        with contextlib.suppress(KeyboardInterrupt):
            train(task, loop, OptimizerConfig(), tmp_path / "cut", True, lambda line: None)
        if at < 99:
            with open(tmp_path / "cut/log.jsonl", "a") as file:
                file.write('{"step": 7, "lo')
    passing = ("steps_per_s", "samples_per_s", "memory_gb")
    whole, cut = (
        [{key: value for key, value in line.items() if key not in passing} for line in read_log(tmp_path / name)]
        for name in ("whole", "cut")
    )
    assert cut == whole and len(whole) == 12


def test_a_board_that_fails_costs_the_board(tmp_path):
    lines = []
    report = Report(LoopConfig(steps=2, log_every=1), tmp_path, 0, lines.append, True)
    report.board = types.SimpleNamespace(add_scalar=lambda *values: 1 / 0, close=lambda: 1 / 0)
    report.step(1, {"loss": 2.0}, {})
    report.step(2, {"loss": 1.0}, {})
    report.close()
    assert [line["loss"] for line in read_log(tmp_path)] == [2.0, 1.0]
    assert sum("TensorBoard or W&B failed (division by zero)" in line for line in lines) == 1
