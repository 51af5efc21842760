"""Metrics of clips against values known by construction, and their known failures."""

import math

import numpy as np
import pytest
import torch

from hunyuan_video.data.toyworld import WORLDS, render
from hunyuan_video.errors import ArgumentError
from hunyuan_video.evaluation.measures.features import clip_point, consistency, distances, frechet, kid, spread
from hunyuan_video.evaluation.measures.temporal import (
    flow_lengths,
    is_dynamic,
    motion_smoothness,
    temporal_flickering,
)

RNG = np.random.default_rng


def moving_square(step, frames=9, side=64):
    clip = np.full((frames, side, side, 3), 30, np.uint8)
    for i in range(frames):
        texture = RNG(0).integers(100, 250, (24, 24, 3))
        clip[i, 20:44, 4 + step * i : 28 + step * i] = texture
    return clip


def test_flickering_is_not_subtracted_as_uint8():
    clip = np.zeros((3, 4, 4, 3), np.uint8)
    clip[1] = 200
    assert temporal_flickering(clip) == pytest.approx(1 - 200 / 255)
    assert math.isnan(temporal_flickering(clip[:1]))


def test_a_frozen_picture_wins_and_a_jump_loses():
    pytest.importorskip("cv2")
    frozen, moving = np.repeat(moving_square(2)[:1], 9, 0), moving_square(2)
    jumping = moving[[0, 6, 1, 8, 2, 5, 0, 7, 3]]
    for measure in (temporal_flickering, motion_smoothness):
        assert measure(frozen) == 1.0 > measure(moving) > measure(jumping)
    assert motion_smoothness(moving) > 0.98  # the flow explains most of a steady motion
    assert math.isnan(motion_smoothness(moving[:2])) and math.isnan(motion_smoothness(moving[:, :8, :8]))


def test_dynamic_degree_sees_motion_in_pixels():
    pytest.importorskip("cv2")
    lengths = flow_lengths(moving_square(3), fps=8)
    assert len(lengths) == 8 and 2 < np.mean(lengths) < 4
    assert is_dynamic(lengths, 9, 64) == 1.0 and is_dynamic(lengths, 9, 256) == 0.0
    still = np.repeat(moving_square(3)[:1], 9, 0)
    assert is_dynamic(flow_lengths(still, fps=24), 3, 64) == 0.0
    assert len(flow_lengths(moving_square(3), fps=24)) == 2  # 8 looks a second
    assert is_dynamic([0.0], 2, 64) == 0.0  # two looks: VBench asks for none to move
    assert math.isnan(is_dynamic([], 1, 64))


def test_consistency_is_the_mean_cosine_to_the_first_and_the_one_before():
    points = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [-1.0, 0.0]], np.float32)
    root = math.sqrt(0.5)
    assert consistency(points) == pytest.approx(((root + root) / 2 + (root + 0) / 2 + (0 + 0) / 2) / 3)
    assert math.isnan(consistency(points[:1]))


def test_frechet_equals_the_matrix_root():
    linalg = pytest.importorskip("scipy.linalg")
    a = RNG(1).normal(size=(40, 6))
    b = RNG(2).normal(size=(40, 6)) @ np.diag([1, 2, 1, 0.5, 1, 1]) + 0.3
    root = linalg.sqrtm(np.cov(a.T) @ np.cov(b.T)).real
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root)
    assert frechet(a, b) == pytest.approx(expected, rel=1e-6)
    assert frechet(a, a) == pytest.approx(0, abs=1e-9) and frechet(a, a + 2) == pytest.approx(24)
    with pytest.raises(ArgumentError, match="one size"):
        frechet(a, b[:20])


def test_kid_is_unbiased_where_frechet_is_not():
    sets = [RNG(seed).normal(size=(30, 50)) / 5 for seed in range(12)]
    pairs = list(zip(sets[::2], sets[1::2], strict=True))
    kids, far = [kid(a, b) for a, b in pairs], [kid(a, b + 0.4) for a, b in pairs]
    assert abs(np.mean(kids)) < 3 * np.std(kids) / math.sqrt(len(kids)) and min(far) > max(map(abs, kids))
    assert min(frechet(a, b) for a, b in pairs) > 0.5


def test_distances_are_at_one_size_with_real_against_real_beside():
    real, made = RNG(3).normal(size=(21, 16)), RNG(4).normal(size=(50, 16)) + 2
    result = distances(made, real)
    assert result["count"] == 10
    assert result["frechet"] == pytest.approx(frechet(made[:10], real[0::2][:10]))
    assert result["frechet_real_against_real"] == pytest.approx(frechet(real[0::2][:10], real[1::2][:10]))
    assert result["kid"] > 10 * abs(result["kid_real_against_real"])
    with pytest.raises(ArgumentError, match="4 real ones"):
        distances(made, real[:3])


def test_meter_gives_every_metric_of_a_toyworld_clip():
    pytest.importorskip("cv2")
    pytest.importorskip("efficientnet_lite_pytorch")
    catalog = pytest.importorskip("hunyuan_video.evaluation.measures.catalog")
    scene = WORLDS["narrow"].scene(0, seed=7)
    clip = render([scene], num_frames=5, size=64)[0].numpy()
    meter = catalog.Meter(tuple(catalog.MEASURES), "narrow")
    prompt = f"a {scene.color} {scene.shape} on a {scene.background} background"
    values = meter.of_frames(clip, 8.0, prompt, clip)
    assert set(catalog.MEASURES) <= set(values)
    assert values["prompt_following"] == values["prompt_following.color"] == values["ssim"] == 1.0
    assert values["psnr"] > 70 and "prompt_following.motion" not in values
    noise = torch.randint(0, 256, clip.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).numpy()
    noisy = catalog.Meter(("sharpness", catalog.FOLLOWING), "narrow").of_frames(noise[:2], 8.0, prompt)
    assert noisy["prompt_following"] == 0.0 and noisy["sharpness"] > values["sharpness"]
    with pytest.raises(ArgumentError, match="--measure must be one of"):
        catalog.measure_of("fvd")


def test_points_and_looks():
    frames = np.arange(17)[:, None, None, None] * np.ones((1, 2, 2, 3))
    assert spread(frames, 3)[:, 0, 0, 0].tolist() == [0, 8, 16] and len(spread(frames[:2], 4)) == 2
    assert clip_point(np.array([[3.0, 0.0], [0.0, 1.0]])) == pytest.approx([math.sqrt(2), math.sqrt(2)])
