"""Order of convergence, exact resumption and refusals of the solvers.

The ODE with a closed form: data ~ N(m, s^2) and noise ~ N(0, 1) make x_t ~ N((1 - t) m, (1 - t)^2 s^2 + t^2), and the
flow keeps quantiles: x_0 = m + s x_1 for the x_1 it started from.
"""

import math

import pytest
import torch

from hunyuan_video.flow import SOLVERS, FlowSchedule, euler_step, make_solver

MEAN, STD = 0.7, 0.4


def gaussian_velocity(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """E[noise - data | x_t = x]."""
    t = t.to(x.dtype)
    variance = (1 - t) ** 2 * STD**2 + t**2
    slope = (t - (1 - t) * STD**2) / variance
    return -MEAN + slope * (x - (1 - t) * MEAN)


def solve(name: str, steps: int, start: torch.Tensor, shift: float = 1.0) -> torch.Tensor:
    schedule = FlowSchedule(steps, shift)
    solver, x = make_solver(name, schedule), start
    for i in range(steps):
        x = solver.step(x, gaussian_velocity, i)
    return x


@pytest.mark.parametrize(("name", "order"), [("euler", 1), ("heun", 2), ("ab2", 2)])
def test_order_of_convergence(name, order):
    start = torch.linspace(-2, 2, 9, dtype=torch.float64)
    exact = MEAN + STD * start
    coarse, fine = ((solve(name, steps, start) - exact).abs().max().item() for steps in (64, 128))
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.25)


@pytest.mark.parametrize("name", ["heun", "ab2"])
def test_second_order_beats_euler_at_equal_steps(name):
    start = torch.linspace(-2, 2, 9, dtype=torch.float64)
    exact = MEAN + STD * start
    for shift in (1.0, 7.0):
        error = (solve(name, 50, start, shift) - exact).abs().max()
        assert error < 0.5 * (solve("euler", 50, start, shift) - exact).abs().max()


@pytest.mark.parametrize("name", sorted(SOLVERS))
def test_straight_paths_are_exact(name):
    """One data point: the velocity is constant along each path and every solver lands on the point."""
    point = torch.randn(1, 3, dtype=torch.float64)
    schedule = FlowSchedule(5, 3.0)
    solver, x = make_solver(name, schedule), torch.randn(1, 3, dtype=torch.float64)
    for i in range(5):
        x = solver.step(x, lambda x, sigma: (x - point) / sigma, i)
    torch.testing.assert_close(x, point, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", sorted(SOLVERS))
@pytest.mark.parametrize("stop", [1, 3, 5])
def test_resuming_gives_the_same_bits(name, stop, tmp_path):
    schedule, start = FlowSchedule(7, 7.0), torch.randn(2, 5)
    solver, x = make_solver(name, schedule), start
    for i in range(7):
        x = solver.step(x, gaussian_velocity, i)

    solver, y = make_solver(name, schedule), start
    for i in range(stop):
        y = solver.step(y, gaussian_velocity, i)
    torch.save({"latents": y, "solver": solver.state_dict()}, tmp_path / "state.pt")
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    solver, y = make_solver(name, schedule), saved["latents"]
    solver.load_state_dict(saved["solver"])
    for i in range(stop, 7):
        y = solver.step(y, gaussian_velocity, i)
    assert torch.equal(x, y)


@pytest.mark.parametrize("name", sorted(SOLVERS))
def test_evaluations_and_dtype(name):
    calls = []

    def predict(x, sigma):
        calls.append(float(sigma))
        assert x.dtype == torch.float32
        return x.bfloat16()

    schedule = FlowSchedule(4, 7.0)
    solver, x = make_solver(name, schedule), torch.randn(1, 4).bfloat16()
    for i in range(4):
        before = len(calls)
        x = solver.step(x, predict, i)
        assert 1 <= len(calls) - before <= solver.evaluations
    assert x.dtype == torch.float32
    assert 0.0 not in calls


def test_euler_step_takes_levels_per_sample():
    x, v = torch.zeros(2, 3), torch.ones(2, 3)
    out = euler_step(x, v, torch.tensor([1.0, 0.5]), torch.tensor([0.5, 0.25]))
    assert out.tolist() == [[-0.5] * 3, [-0.25] * 3]
    assert torch.equal(euler_step(x.half(), v.half(), 1.0, 0.5), torch.full((2, 3), -0.5))


def test_single_step_of_every_solver_is_euler():
    start = torch.randn(1, 4)
    expected = euler_step(start, gaussian_velocity(start, torch.tensor(1.0)), 1.0, 0.0)
    for name in SOLVERS:
        assert torch.equal(solve(name, 1, start), expected)


def test_refusals():
    schedule, x = FlowSchedule(4, 7.0), torch.zeros(1)
    with pytest.raises(ValueError, match="solver must be one of"):
        make_solver("rk45", schedule)
    for index in (-1, 4):
        with pytest.raises(IndexError, match="outside the schedule"):
            make_solver("euler", schedule).step(x, gaussian_velocity, index)
    with pytest.raises(ValueError, match="does not follow"):
        make_solver("ab2", schedule).step(x, gaussian_velocity, 2)
    with pytest.raises(ValueError, match="keeps no state"):
        make_solver("euler", schedule).load_state_dict({"previous": x, "index": 0})
    with pytest.raises(ValueError, match="expects state entries"):
        make_solver("ab2", schedule).load_state_dict({"x": x})
