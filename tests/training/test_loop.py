"""The training loop: schedule, averages, exact resume, damaged checkpoints, non-finite gradients."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from hunyuan_video.errors import UserError
from hunyuan_video.training.config import LoopConfig, OptimizerConfig
from hunyuan_video.training.ema import EMA
from hunyuan_video.training.loop import train
from hunyuan_video.training.lr_schedule import learning_rate_factor
from hunyuan_video.training.optimizer import make_optimizers
from hunyuan_video.training.report import read_log


class Blocks(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(6, 6)])
        self.out = nn.Linear(6, 2)

    def forward(self, x):
        return self.out(torch.relu(self.blocks[0](x)))


class Regression:
    """A linear target with dropout-like noise from the global generator, so that resume must restore it."""

    def __init__(self, poison=()):
        torch.manual_seed(5)
        self.network = Blocks()
        self.poison = poison
        self.evaluations = []

    def loss(self, step, generator):
        x = torch.randn(8, 6, generator=generator)
        y = self.network(x + 0.1 * torch.randn(x.shape))
        loss = (y - x[:, :2]).square().mean()
        return loss * float("nan") if step in self.poison else loss, {"twice": 2 * loss.item()}

    def evaluate(self, step, folder):
        self.evaluations.append(step)
        return {"weight": self.network.out.weight.sum().item()}

    def export(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(self.network.state_dict(), folder / "weights.pt")


LOOP = LoopConfig(steps=12, save_every=4, sheet_every=0, log_every=5, precision="fp32")


def quiet(line):
    pass


@pytest.mark.parametrize("muon_lr", [0.0, 1e-3])
def test_interrupted_and_resumed_equals_unbroken_bitwise(tmp_path, muon_lr):
    optimizer = OptimizerConfig(lr=1e-2, muon_lr=muon_lr, warmup_steps=3)
    whole = Regression()
    train(whole, LOOP, optimizer, tmp_path / "whole", False, quiet)

    class Stops(Regression):
        def loss(self, step, generator):
            if step == 10:
                raise KeyboardInterrupt
            return super().loss(step, generator)

    with pytest.raises(KeyboardInterrupt):
        train(Stops(), LOOP, optimizer, tmp_path / "broken", False, quiet)
    resumed = Regression()
    lines = []
    train(resumed, LOOP, optimizer, tmp_path / "broken", True, lines.append)
    assert lines[0] == "resumed at step 8"
    for a, b in zip(whole.network.parameters(), resumed.network.parameters(), strict=True):
        assert torch.equal(a, b)
    one, two = (torch.load(tmp_path / f / "export/weights.pt", weights_only=True) for f in ("whole", "broken"))
    assert all(torch.equal(one[k], two[k]) for k in one)


def test_training_lowers_the_loss_and_exports_the_average(tmp_path):
    task = Regression()
    loop = LoopConfig(steps=150, save_every=1000, sheet_every=0, precision="fp32")
    before = task.loss(0, torch.Generator().manual_seed(0))[0].item()
    train(task, loop, OptimizerConfig(lr=1e-2, ema=0.9), tmp_path, False, quiet)
    after = task.loss(0, torch.Generator().manual_seed(0))[0].item()
    assert after < 0.3 * before
    exported = torch.load(tmp_path / "export/weights.pt", weights_only=True)
    assert not torch.equal(exported["out.weight"], task.network.out.weight)  # averaged, and the live weights came back


def test_existing_run_is_not_overwritten(tmp_path):
    train(Regression(), LOOP, OptimizerConfig(), tmp_path, False, quiet)
    with pytest.raises(UserError, match="--resume"):
        train(Regression(), LOOP, OptimizerConfig(), tmp_path, False, quiet)


def test_killed_before_the_last_export_resumes_with_it(tmp_path):
    """The last checkpoint is written before the last evaluation and export."""

    class Killed(Regression):
        def export(self, folder):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(Killed(), LOOP, OptimizerConfig(), tmp_path, False, quiet)
    assert not (tmp_path / "export").exists()
    resumed = Regression()
    train(resumed, LOOP, OptimizerConfig(), tmp_path, True, quiet)
    assert resumed.evaluations == [LOOP.steps] and (tmp_path / "export/weights.pt").exists()
    again, lines = Regression(), []
    train(again, LOOP, OptimizerConfig(), tmp_path, True, quiet)
    assert again.evaluations == []  # a finished run stays as it is
    train(again, replace(LOOP, steps=5), OptimizerConfig(), tmp_path, True, lines.append)
    assert again.evaluations == [] and "step 12 is beyond loop.steps = 5: nothing to do" in lines


@pytest.mark.parametrize(("before", "after"), [(0.0, 1e-3), (1e-3, 0.0)])
def test_another_optimizer_cannot_continue(tmp_path, before, after):
    train(Regression(), LOOP, OptimizerConfig(muon_lr=before), tmp_path, False, quiet)
    with pytest.raises(UserError, match=r"blocks.0.weight was trained by (AdamW|Muon): keep optimizer.muon_lr"):
        train(Regression(), LOOP, OptimizerConfig(muon_lr=after), tmp_path, True, quiet)


def test_resume_without_a_checkpoint_says_so(tmp_path):
    lines = []
    train(Regression(), LOOP, OptimizerConfig(), tmp_path, True, lines.append)
    assert "no checkpoint to continue from; starting at step 0" in lines[0]


def test_an_output_that_is_a_file_is_one_line(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match="run: File exists"):
        train(Regression(), LOOP, OptimizerConfig(), tmp_path / "run", False, quiet)


def test_non_finite_steps_are_skipped_and_then_stop_the_run(tmp_path):
    task = Regression(poison={3})
    train(task, LOOP, OptimizerConfig(), tmp_path / "one", False, quiet)
    assert all(torch.isfinite(p).all() for p in task.network.parameters())
    with pytest.raises(UserError, match="NaN"):
        train(Regression(poison=range(999)), LoopConfig(steps=99, precision="fp32"), OptimizerConfig(),
              tmp_path / "all", False, quiet)  # fmt: skip


class Poisoned(Regression):
    """NaN losses at some steps, infinite gradients at others."""

    clips_drawn = ("a", "b")

    def __init__(self, poison, infinite=()):
        super().__init__(poison)
        self.infinite = infinite

    def loss(self, step, generator):
        loss, parts = super().loss(step, generator)
        if step in self.infinite:  # a root at 0: a finite loss, an infinite gradient
            loss = loss + (self.network.out.weight * 0).sum().sqrt()
        return loss, parts


def test_skipped_steps_are_counted_by_cause_and_clip(tmp_path):
    lines, loop = [], replace(LOOP, log_every=1)
    train(Poisoned({3, 5, 9}, {6}), replace(loop, steps=8), OptimizerConfig(), tmp_path, False, lines.append)
    log = [line for line in read_log(tmp_path) if "loss" in line]
    assert "skipped_by" not in log[0] and log[6]["skipped_by"] == {"loss": 2, "gradient": 1}
    assert log[6]["skipped_clips"] == {"a": 2, "b": 2} and log[6]["skipped"] == 3
    assert lines[-1] == "steps without an update: 3 skipped (loss 2, gradient 1; clips a 2, b 2)"
    train(Poisoned({3, 5, 9}, {6}), loop, OptimizerConfig(), tmp_path, True, lines.append)
    assert lines[-1] == "steps without an update: 4 skipped (loss 3, gradient 1; clips a 3, b 3)"


@pytest.mark.parametrize("poison", [range(9, 99), range(99)], ids=["at the end", "from the start"])
def test_a_diverged_run_is_a_failure_with_its_last_good_weights(tmp_path, poison):
    task = Poisoned(poison)
    with pytest.raises(UserError, match=f"has diverged, its weights are those of step {min(poison)};"):
        train(task, LOOP, OptimizerConfig(), tmp_path, False, quiet)
    exported = torch.load(tmp_path / "export/weights.pt", weights_only=True)
    assert all(torch.isfinite(weight).all() for weight in exported.values())


def test_learning_rate_factor():
    config = OptimizerConfig(warmup_steps=10, decay=0.5)
    factors = [learning_rate_factor(s, s / 100, config) for s in range(100)]
    assert factors[0] == pytest.approx(0.1) and factors[9] == 1.0 and factors[50] == 1.0
    assert factors[75] == pytest.approx(0.5) and factors[99] == pytest.approx(0.02)


def test_muon_gets_the_block_matrices_only():
    adamw, muon = make_optimizers(Blocks(), OptimizerConfig(muon_lr=1e-3))
    assert [p.shape for g in muon.param_groups for p in g["params"]] == [(6, 6)]
    assert sum(p.numel() for g in adamw.param_groups for p in g["params"]) == 6 + 12 + 2


def test_average_is_the_running_mean():
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 0.0)
    average = EMA(network, 0.5)
    nn.init.constant_(network.weight, 1.0)
    for step in (1000, 1001):
        average.update(network, step)
    with average.in_place_of(network):
        assert network.weight.item() == pytest.approx(0.75)
    assert network.weight.item() == 1.0


def test_frozen_weights_are_their_own_average(tmp_path):
    """A copy of them would double the memory of training an adapter, and the size of its checkpoints."""
    task = Regression()
    task.network.blocks.requires_grad_(False)
    before = task.network.blocks[0].weight.detach().clone()
    train(task, LOOP, OptimizerConfig(lr=1e-2), tmp_path, False, quiet)
    assert set(EMA(task.network, 0.5).weights) == {"out.weight", "out.bias"}
    exported = torch.load(tmp_path / "export/weights.pt", weights_only=True)
    assert torch.equal(exported["blocks.0.weight"], before) and torch.equal(task.network.blocks[0].weight, before)
    assert not torch.equal(exported["out.weight"], task.network.out.weight)
