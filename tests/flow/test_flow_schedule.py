"""Noise schedules against hand numbers, recorded ones and diffusers'."""

import pytest
import torch

from hunyuan_video.flow import FlowSchedule, default_shift, euler_step, resolution_shift, shift_times


def test_hand_numbers():
    schedule = FlowSchedule(4, 7.0)
    torch.testing.assert_close(schedule.sigmas, torch.tensor([1, 21 / 22, 7 / 8, 0.7, 0]))
    torch.testing.assert_close(schedule.timesteps, torch.tensor([1000, 21000 / 22, 875, 700]))
    assert schedule.sigmas.dtype == torch.float32
    assert len(schedule) == 4
    assert FlowSchedule(4, 1.0).sigmas.tolist() == [1, 0.75, 0.5, 0.25, 0]


def test_paper_grid_of_10_steps():
    expected = torch.tensor([1, 0.994, 0.986, 0.975, 0.962, 0.944, 0.919, 0.879, 0.810, 0.654, 0])
    torch.testing.assert_close(FlowSchedule(10).sigmas, expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize(("steps", "shift"), [(1, 17), (19, 17), (20, 17), (35, 12), (50, 7), (100, 7)])
def test_default_shift(steps, shift):
    assert default_shift(steps) == shift == FlowSchedule(steps).shift


@pytest.mark.parametrize("shift", [0.3, 1.0, 7.0, 17.0])
def test_ends_are_exact_and_order_strict(shift):
    sigmas = FlowSchedule(50, shift).sigmas
    assert sigmas[0] == 1
    assert sigmas[-1] == 0
    assert (sigmas.diff() < 0).all()


@pytest.mark.parametrize("name", ["0", "1", "2", "3", "4", "5"])
def test_golden_scheduler(golden, name):
    """The recorded `reverse=False` runs (from noise at level 0 to 1) are our schedule mirrored."""
    case = golden("scheduler")
    settings, given, expected = case.facts["config"][name], case.part("in"), case.part("out")
    sigmas = FlowSchedule(settings["num_inference_steps"], settings["shift"]).sigmas
    if not settings["reverse"]:
        sigmas = 1 - sigmas
    torch.testing.assert_close(sigmas, expected[f"{name}.sigmas"], rtol=0, atol=2e-7)
    torch.testing.assert_close(1000 * sigmas[:-1], expected[f"{name}.timesteps"], rtol=0, atol=2e-4)
    if settings["trajectory"]:
        latents = given[f"{name}.sample"]
        for i, velocity in enumerate(given[f"{name}.velocity"]):
            latents = euler_step(latents, velocity, sigmas[i], sigmas[i + 1])
            assert latents.dtype == torch.float32
            torch.testing.assert_close(latents, expected[f"{name}.trajectory"][i], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("steps", "shift"), [(1, 7.0), (4, 7.0), (10, 17.0), (50, 7.0)])
def test_schedule_equals_diffusers(steps, shift):
    scheduler = pytest.importorskip("diffusers").FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(sigmas=torch.linspace(1, 0, steps + 1)[:-1].numpy())
    schedule = FlowSchedule(steps, shift)
    torch.testing.assert_close(schedule.sigmas, scheduler.sigmas, rtol=0, atol=1e-6)
    torch.testing.assert_close(schedule.timesteps, scheduler.timesteps, rtol=0, atol=1e-3)
    ours = theirs = torch.randn(2, 3, 4)
    for i, t in enumerate(scheduler.timesteps):
        velocity = torch.randn(2, 3, 4)
        theirs = scheduler.step(velocity, t, theirs).prev_sample
        ours = euler_step(ours, velocity, schedule.sigmas[i], schedule.sigmas[i + 1])
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("steps", [0, -3])
def test_too_few_steps(steps):
    with pytest.raises(ValueError, match=f"steps must be at least 1, got {steps}"):
        FlowSchedule(steps, 7.0)


@pytest.mark.parametrize("steps", [2.5, "4", None])
def test_steps_must_be_whole(steps):
    with pytest.raises(TypeError, match="steps must be a whole number"):
        FlowSchedule(steps, 7.0)


@pytest.mark.parametrize("shift", [0, -1.0, float("nan"), float("inf")])
def test_bad_shift(shift):
    with pytest.raises(ValueError, match="shift must be a positive number"):
        FlowSchedule(4, shift)


def test_shift_grows_with_the_root_of_the_tokens():
    assert resolution_shift(1000, 1000, 3.0) == 3.0
    assert resolution_shift(4000, 1000, 3.0) == pytest.approx(6.0)
    # noise at the shifted level hides as much of 4 averaged tokens as at the plain level of one: signal to noise halves
    t = torch.tensor(0.4)
    shifted = shift_times(t, resolution_shift(4, 1))
    assert ((1 - shifted) / shifted).item() == pytest.approx(((1 - t) / t).item() / 2)
    with pytest.raises(ValueError, match="positive"):
        resolution_shift(0, 1000)
