"""The one training loop: optimizer, averages, schedule, checkpoints, exact resume, reports."""

from __future__ import annotations

import json
import math
import os
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hunyuan_video.errors import UserError
from hunyuan_video.training import state
from hunyuan_video.training.config import LoopConfig, OptimizerConfig
from hunyuan_video.training.muon import Muon


class Task(Protocol):
    """What a training run supplies: a network, a loss of (step, generator), reports and the exported result."""

    network: nn.Module

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]: ...
    def evaluate(self, step: int, folder: Path) -> dict[str, float]: ...
    def export(self, folder: Path) -> None: ...


def learning_rate_factor(step: int, steps: int, config: OptimizerConfig) -> float:
    """Linear warm-up, constant, linear decay to zero over the last `config.decay` of the run."""
    warm = min(1.0, (step + 1) / max(config.warmup_steps, 1))
    left = (steps - step) / max(steps * config.decay, 1.0)
    return min(warm, left, 1.0)


def make_optimizers(network: nn.Module, config: OptimizerConfig) -> list[torch.optim.Optimizer]:
    """AdamW for everything, or Muon for the matrices and convolutions inside blocks when muon_lr is set."""
    matrices, rest = [], []
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            inside = config.muon_lr > 0 and parameter.ndim >= 2 and "block" in name
            (matrices if inside else rest).append(parameter)
    adamw = torch.optim.AdamW(rest, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay, foreach=True)
    return [adamw, Muon(matrices, config.muon_lr, weight_decay=config.weight_decay)] if matrices else [adamw]


class Average:
    """Exponential moving average of the weights, warmed up so that early weights are forgotten quickly."""

    def __init__(self, network: nn.Module, decay: float):
        self.decay = decay
        self.weights = {name: p.detach().clone() for name, p in network.named_parameters()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        decay = min(self.decay, (step + 1) / (step + 10))
        live = [p.detach() for _, p in network.named_parameters()]
        torch._foreach_lerp_(list(self.weights.values()), live, 1 - decay)

    @contextmanager
    def in_place_of(self, network: nn.Module):
        """The network holds the averaged weights inside this context."""
        live = {name: p.detach().clone() for name, p in network.named_parameters()}
        with torch.no_grad():
            for name, p in network.named_parameters():
                p.copy_(self.weights[name])
        try:
            yield network
        finally:
            with torch.no_grad():
                for name, p in network.named_parameters():
                    p.copy_(live[name])


def join_ranks() -> tuple[int, int]:
    """(rank, ranks): joins the gloo group of `torchrun`, or (0, 1) in a single process."""
    if not dist.is_torchelastic_launched():
        return 0, 1
    if not dist.is_initialized():
        dist.init_process_group("gloo")
    return dist.get_rank(), dist.get_world_size()


@torch.no_grad()
def average_gradients(network: nn.Module, ranks: int) -> None:
    """Mean over the ranks, sent as one flat tensor: small models are bound by the number of messages."""
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    flat /= ranks
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def train(task: Task, loop: LoopConfig, optimizer: OptimizerConfig, folder: Path, resume: bool, report=print) -> dict:
    """Run to `loop.steps`; returns the last metrics. With `resume`, continues from the newest checkpoint in `folder`.

    Under torchrun every rank draws its own batch and gradients are averaged, so the batch is `ranks` times as large.
    """
    torch.set_num_threads(loop.threads)
    rank, ranks = join_ranks()
    report = report if rank == 0 else lambda line: None
    folder.mkdir(parents=True, exist_ok=True)
    network = task.network
    optimizers = make_optimizers(network, optimizer)
    base_rates = [[group["lr"] for group in one.param_groups] for one in optimizers]
    average = Average(network, optimizer.ema)
    first = 0
    saved = state.load_latest(folder / "checkpoints", report) if resume else None
    if saved is not None:
        network.load_state_dict(saved["network"])
        average.weights = saved["average"]
        for one, kept in zip(optimizers, saved["optimizers"], strict=True):
            one.load_state_dict(kept)
        first = saved["step"]
        report(f"resumed at step {first}")
    elif not resume and any((folder / "checkpoints").glob("step_*.pt")):
        raise UserError(f"{folder} already holds checkpoints; continue them with --resume or choose another output")
    log = open(folder / "log.jsonl" if rank == 0 else os.devnull, "a")
    started, running, skipped, metrics = time.time(), {}, 0, {}
    for step in range(first, loop.steps):
        factor = learning_rate_factor(step, loop.steps, optimizer)
        for one, rates in zip(optimizers, base_rates, strict=True):
            for group, rate in zip(one.param_groups, rates, strict=True):
                group["lr"] = rate * factor
        seed = ((loop.seed * 1_000_003 + step) * ranks + rank) % 2**62
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed + 1)
        network.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=loop.precision == "bf16"):
            loss, parts = task.loss(step, generator)
        loss.backward()
        if ranks > 1:
            average_gradients(network, ranks)
        norm = nn.utils.clip_grad_norm_(network.parameters(), optimizer.clip)
        if math.isfinite(norm.item()):
            for one in optimizers:
                one.step()
            average.update(network, step)
        else:
            skipped += 1
            if skipped > 50:
                raise UserError(f"step {step}: 50 steps had infinite or NaN gradients; lower optimizer.lr and resume")
        for one in optimizers:
            one.zero_grad(set_to_none=True)
        for key, value in {"loss": loss.item(), "grad": norm.item(), **parts}.items():
            running.setdefault(key, []).append(value)
        done = step + 1
        if done % loop.log_every == 0 or done == loop.steps:
            means = {k: sum(v) / len(v) for k, v in running.items()}
            rate = (done - first) / (time.time() - started)
            eta = (loop.steps - done) / rate
            line = {"step": done, "steps_per_s": rate, "lr": factor, "skipped": skipped, **means}
            log.write(json.dumps(line) + "\n")
            log.flush()
            report(f"step {done}/{loop.steps} " + " ".join(f"{k} {v:.4f}" for k, v in means.items())
                   + f" | {rate:.2f} steps/s, {eta / 60:.1f} min left")  # fmt: skip
            running = {}
        if rank:  # the first rank writes and evaluates, the others wait for it in the next average
            continue
        if done % loop.save_every == 0 or done == loop.steps:
            kept = {"network": network.state_dict(), "average": average.weights,
                    "optimizers": [one.state_dict() for one in optimizers]}  # fmt: skip
            state.save(folder / "checkpoints", done, kept, loop.keep)
        if (loop.sheet_every and done % loop.sheet_every == 0) or done == loop.steps:
            with average.in_place_of(network):
                network.eval()
                metrics = task.evaluate(done, folder)
                log.write(json.dumps({"step": done, "evaluation": metrics}) + "\n")
                log.flush()
                report(f"step {done} evaluation: " + json.dumps(metrics))
                task.export(folder / "export")
    log.close()
    return metrics
