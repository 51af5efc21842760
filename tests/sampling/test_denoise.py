"""Sampling with the adaLN vectors of all steps from one table."""

from __future__ import annotations

import pytest
import torch

from hunyuan_video.flow import SOLVERS, FlowSchedule
from hunyuan_video.models import HunyuanVideoTransformer
from hunyuan_video.sampling.denoise import ModulationTables

PROMPT = "a red star moves left"


@pytest.fixture
def condition_calls(pipe, monkeypatch):
    """One entry per time the transformer computed its condition: the shape of the timesteps."""
    calls, real = [], HunyuanVideoTransformer.condition

    def counted(self, timestep, *rest):
        calls.append(tuple(timestep.shape))
        return real(self, timestep, *rest)

    monkeypatch.setattr(HunyuanVideoTransformer, "condition", counted)
    return calls


@pytest.mark.parametrize("solver", list(SOLVERS))
@pytest.mark.parametrize("true_cfg_scale", [1.0, 3.0])
def test_one_table_serves_all_steps_and_gives_the_same_video(
    pipe, condition_calls, monkeypatch, solver, true_cfg_scale
):
    run = {"seed": 2, "solver": solver, "true_cfg_scale": true_cfg_scale, "output_type": "latent"}
    with_table = pipe(PROMPT, **run).latents
    assert condition_calls == [(4, 1)]
    monkeypatch.setattr(ModulationTables, "at", lambda *_: None)
    per_step = pipe(PROMPT, **run).latents
    assert len(condition_calls) >= 1 + 4
    assert (with_table - per_step).abs().max() <= 2e-5 * per_step.abs().max()


def test_videos_of_one_prompt_share_a_table(pipe, condition_calls):
    pipe([PROMPT, "a blue circle"], num_videos_per_prompt=2, seed=1, output_type="latent")
    assert condition_calls == [(4, 1)] * 2


def test_other_timesteps_have_no_table(pipe):
    schedule = FlowSchedule(4, 7.0)
    tables = ModulationTables(pipe.transformer, schedule.timesteps)
    pooled = torch.zeros(1, pipe.transformer.config.pooled_text_dim)
    with torch.no_grad():
        assert tables.at(torch.tensor(123.0), pooled, None) is None
        assert tables.at(schedule.timesteps[3], pooled, None) is not None
