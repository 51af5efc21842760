"""The training objective against closed forms, and guidance."""

import math

import pytest
import torch

from hunyuan_video.flow import FlowObjective, classifier_free_guidance, interpolate, rescale_guidance, sample_timesteps


def test_path_ends_and_target():
    data, noise = torch.randn(3, 2, 4), torch.randn(3, 2, 4)
    batch = FlowObjective().draw(data, times=torch.tensor([0.0, 1.0, 0.25]), noise=noise)
    assert torch.equal(batch.latents[0], data[0])
    assert torch.equal(batch.latents[1], noise[1])
    torch.testing.assert_close(batch.latents[2], 0.75 * data[2] + 0.25 * noise[2])
    assert torch.equal(batch.target, noise - data)
    assert batch.timesteps.tolist() == [0, 1000, 250]


def test_optimal_velocity_on_gaussian_data_has_the_closed_form_loss():
    """data ~ N(m, s^2): the best velocity is E[v | x_t], and its loss is Var[v | x_t] = s^2 / ((1 - t)^2 s^2 + t^2)."""
    mean, std, t = 0.7, 0.4, 0.3
    generator = torch.Generator().manual_seed(3)
    data = mean + std * torch.randn(4, 100_000, generator=generator)
    objective = FlowObjective()
    batch = objective.draw(data, generator, times=torch.full((4,), t))
    variance = (1 - t) ** 2 * std**2 + t**2
    best = -mean + (t - (1 - t) * std**2) / variance * (batch.latents - (1 - t) * mean)
    expected = std**2 / variance
    assert objective.loss(best, batch).item() == pytest.approx(expected, rel=0.01)
    # and it is a minimum: leaning either way is worse
    assert objective.loss(best * 1.05, batch) > objective.loss(best, batch) < objective.loss(best * 0.95, batch)


def test_times_are_logit_normal():
    times = sample_timesteps(200_000, mean=0.5, std=0.8, generator=torch.Generator().manual_seed(1))
    logits = torch.logit(times.double())
    assert times.dtype == torch.float32
    assert times.min() > 0
    assert times.max() < 1
    assert logits.mean().item() == pytest.approx(0.5, abs=0.01)
    assert logits.std().item() == pytest.approx(0.8, abs=0.01)


def test_shift_adds_its_logarithm_to_the_logit():
    plain = sample_timesteps(1000, generator=torch.Generator().manual_seed(1))
    shifted = sample_timesteps(1000, shift=7.0, generator=torch.Generator().manual_seed(1))
    drawn = FlowObjective(shift=7.0).draw(torch.zeros(1000, 1), torch.Generator().manual_seed(1)).times
    assert torch.equal(drawn, shifted)
    torch.testing.assert_close(torch.logit(shifted), torch.logit(plain) + math.log(7.0), rtol=1e-3, atol=1e-3)


def test_weighting_and_per_sample_losses():
    data = torch.randn(2, 3)
    batch = FlowObjective().draw(data, times=torch.tensor([0.25, 0.5]), noise=torch.zeros(2, 3))
    velocity = batch.target + torch.tensor([[1.0], [2.0]])
    torch.testing.assert_close(FlowObjective().loss_per_sample(velocity, batch), torch.tensor([1.0, 4.0]))
    assert FlowObjective().loss(velocity, batch).item() == pytest.approx(2.5)
    assert FlowObjective(weighting=lambda t: 4 * t).loss(velocity, batch).item() == pytest.approx(4.5)


def test_draw_is_reproducible_and_keeps_the_dtype():
    data = torch.randn(2, 3, dtype=torch.bfloat16)
    first, second = (FlowObjective().draw(data, torch.Generator().manual_seed(5)) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)
    assert first.latents.dtype == first.target.dtype == torch.bfloat16
    assert first.times.dtype == torch.float32
    assert FlowObjective().loss(first.target, first).dtype == torch.float32


def test_interpolate_broadcasts_over_any_rank():
    out = interpolate(torch.zeros(2, 1, 1, 2), torch.ones(2, 1, 1, 2), torch.tensor([0.25, 1.0]))
    assert out.flatten().tolist() == [0.25, 0.25, 1.0, 1.0]


@pytest.mark.parametrize(("field", "value"), [("mean", math.nan), ("std", -1.0), ("std", math.inf), ("shift", 0.0)])
def test_bad_settings(field, value):
    with pytest.raises(ValueError, match=field):
        FlowObjective(**{field: value})


def test_wrong_velocity_shape():
    batch = FlowObjective().draw(torch.randn(2, 3))
    with pytest.raises(ValueError, match=r"velocity must have shape \[2, 3\], got \[2, 1\]"):
        FlowObjective().loss(torch.zeros(2, 1), batch)


def test_guidance_scales():
    conditional, unconditional = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    torch.testing.assert_close(classifier_free_guidance(conditional, unconditional, 1.0), conditional)
    torch.testing.assert_close(classifier_free_guidance(conditional, unconditional, 0.0), unconditional)
    guided = classifier_free_guidance(conditional.bfloat16(), unconditional.bfloat16(), 6.0)
    assert guided.dtype == torch.float32
    torch.testing.assert_close(
        guided, 6 * conditional.bfloat16().float() - 5 * unconditional.bfloat16().float(), rtol=1e-5, atol=1e-5
    )


def test_full_rescale_matches_the_deviation_per_sample():
    conditional, guided = torch.randn(2, 3, 4), 5 * torch.randn(2, 3, 4)
    matched = rescale_guidance(guided, conditional, 1.0)
    torch.testing.assert_close(matched.flatten(1).std(1), conditional.flatten(1).std(1))
    half = rescale_guidance(guided, conditional, 0.5)
    torch.testing.assert_close(half, (matched + guided) / 2)


def test_rescale_of_a_constant_is_finite_and_range_is_checked():
    flat = torch.ones(1, 4)
    assert rescale_guidance(flat, flat, 1.0).isfinite().all()
    with pytest.raises(ValueError, match=r"guidance_rescale must be between 0 and 1, got 1\.5"):
        classifier_free_guidance(flat, flat, 2.0, 1.5)


def test_a_given_first_frame_is_clean_and_not_learned():
    torch.manual_seed(0)
    data = torch.randn(2, 3, 4, 2, 2)
    given, plain = FlowObjective(first_frame=True), FlowObjective()
    batch, other = (objective.draw(data, torch.Generator().manual_seed(1)) for objective in (given, plain))
    assert torch.equal(batch.latents[:, :, :1], data[:, :, :1])
    assert torch.equal(batch.latents[:, :, 1:], other.latents[:, :, 1:]) and torch.equal(batch.times, other.times)
    velocity = torch.randn(data.shape, requires_grad=True)
    loss = given.loss(velocity, batch)
    assert loss.item() == pytest.approx((velocity - batch.target)[:, :, 1:].square().mean().item())
    loss.backward()
    assert velocity.grad[:, :, 0].abs().max() == 0
    assert (velocity.grad[:, :, 1:] != 0).all()
    with pytest.raises(ValueError, match="T >= 2"):
        given.draw(data[:, :, :1])
