"""Following a velocity field: whole runs, part of one, a given first frame, and guidance with both branches."""

from __future__ import annotations

import pytest
import torch

from hunyuan_video.flow import (
    EulerSolver,
    FlowSchedule,
    LCMSolver,
    advance,
    both_branches,
    classifier_free_guidance,
    guided,
    integrate,
    make_solver,
)


def field(latents: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
    return latents.sin() * (1 + times.view(-1, 1, 1, 1, 1))


@pytest.mark.parametrize("name", ["euler", "heun", "ab2", "lcm"])
def test_a_run_is_its_steps(name):
    schedule, noise = FlowSchedule(4, 3.0), torch.randn(2, 3, 2, 4, 4)
    solver, x = make_solver(name, schedule), noise
    for index in range(4):
        x = solver.step(x, lambda y, sigma: field(y, sigma.expand(2)), index)
    assert torch.equal(integrate(field, noise, make_solver(name, schedule)), x)


def test_a_run_may_stop_early_and_has_no_gradients():
    schedule, noise = FlowSchedule(4, 3.0), torch.randn(2, 3, 2, 4, 4, requires_grad=True)
    half = integrate(field, noise, EulerSolver(schedule), stop=2)
    assert not half.requires_grad
    x = half
    for index in (2, 3):
        x = advance(EulerSolver(schedule), lambda y, sigma: field(y, sigma.expand(2)), x, index)
    assert torch.equal(integrate(field, noise, EulerSolver(schedule)), x)
    assert torch.equal(integrate(field, noise, EulerSolver(schedule), stop=0), noise)


def test_lcm_draws_with_the_function_it_is_given():
    generator = torch.Generator().manual_seed(3)
    solver = LCMSolver(FlowSchedule(2, 1.0), lambda x: torch.randn(x.shape, generator=generator))
    noise = torch.zeros(1, 1, 1, 1, 4)
    drawn = torch.randn(noise.shape, generator=torch.Generator().manual_seed(3))
    # at 0.5 the clean prediction of a zero velocity is x itself, and half of it becomes new noise
    assert torch.equal(integrate(lambda x, times: torch.zeros_like(x), noise, solver, stop=1), 0.5 * drawn)
    assert solver.state_dict() == {}


def test_both_branches_share_a_call_of_twice_the_size():
    calls = []

    def doubled(latents, times):  # the first half is without the prompt
        calls.append(len(latents))
        prompt = torch.tensor([0.0, 0.0, 1.0, 1.0]).view(-1, 1)
        return (latents + prompt + times.view(-1, 1)).half()

    latents, times = torch.randn(2, 3), torch.tensor([0.25, 0.75])
    without, with_prompt = both_branches(doubled, latents, times)
    assert calls == [4] and without.dtype == torch.float32
    torch.testing.assert_close(without, latents + times.view(-1, 1), atol=2e-3, rtol=0)
    torch.testing.assert_close(with_prompt - without, torch.ones(2, 3), atol=4e-3, rtol=0)
    scales = torch.tensor([1.0, 3.0])
    for scale in (2.0, scales):
        expected = classifier_free_guidance(with_prompt, without, scale, 0.5)
        assert torch.equal(guided(doubled, latents, times, scale, 0.5), expected)


def test_a_scale_for_each_sample():
    conditional, unconditional = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    both = classifier_free_guidance(conditional, unconditional, torch.tensor([1.5, 6.0]))
    for row, scale in enumerate((1.5, 6.0)):
        expected = classifier_free_guidance(conditional[row], unconditional[row], scale)
        assert torch.equal(both[row], expected)
