"""The tremble of an outline, measured between pixels."""

import math

import pytest
import torch

from hunyuan_video.data.toyworld import render
from hunyuan_video.evaluation.wobble import mean_wobble, outline_wobble, resting_scenes


def discs(radii, side=48, middle=(23.5, 23.5)):
    """A white disc on dark gray, a frame for each radius, exact between pixels: uint8 [F, side, side, 3]."""
    y, x = torch.meshgrid(torch.arange(side) - middle[1], torch.arange(side) - middle[0], indexing="ij")
    cover = (torch.tensor(radii).view(-1, 1, 1) - torch.hypot(x, y) + 0.5).clamp(0.0, 1.0)
    return (40.0 + 200.0 * cover)[..., None].expand(-1, -1, -1, 3).round().to(torch.uint8)


@pytest.mark.parametrize("tremble", [0.1, 0.3, 1.0])
def test_a_trembling_disc_wobbles_by_what_its_radius_does(tremble):
    result = outline_wobble(discs([12.0 - tremble, 12.0 + tremble] * 4))
    assert result == pytest.approx(tremble, rel=0.08, abs=0.01)


@pytest.mark.parametrize("world", ["narrow", "wide"])
def test_drawn_objects_at_rest_do_not_wobble(world):
    scenes = resting_scenes(world, 6)
    assert mean_wobble(render(scenes, num_frames=5, size=64)) == {"mean": 0.0, "worst": 0.0, "found": 1.0}


def test_brightness_does_not_count_as_an_outline():
    frames = discs([12.0] * 6).float()
    flicker = torch.tensor([1.0, 0.96, 1.0, 0.94, 1.0, 0.98]).view(-1, 1, 1, 1)
    assert outline_wobble((frames * flicker).round().to(torch.uint8)) < 0.06


def test_nothing_to_measure():
    assert math.isnan(outline_wobble(torch.full((4, 32, 32, 3), 90, dtype=torch.uint8)))
