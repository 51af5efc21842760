"""Crops for the VAE: anywhere, or where the linear code errs."""

import pytest
import torch

from hunyuan_video.media.pixels import to_unit
from hunyuan_video.models.grid import Grid
from hunyuan_video.training.tasks.crops import linear_error, random_crops
from hunyuan_video.training.tasks.pca import PCALatents


@pytest.fixture
def clips():
    """Gray clips of 17 frames of 32 x 48; from frame 9 on, noise in the latent of rows 8 to 16, columns 32 to 40."""
    torch.manual_seed(3)
    clips = torch.full((6, 17, 32, 48, 3), 90, dtype=torch.uint8)
    clips[:, 9:13, 8:16, 32:40] = torch.randint(0, 255, (6, 4, 8, 8, 3), dtype=torch.uint8)
    return clips


@pytest.fixture
def pca(clips):
    return PCALatents.fit(to_unit(clips), Grid(4), whiten=0.5)


def test_the_linear_error_sits_where_the_noise_is(clips, pca):
    error = linear_error(to_unit(clips), pca)
    assert error.shape == (6, 5, 4, 6)
    assert error[:, 3, 1, 4].sum() > 0.99 * error.sum()
    full = pca.decode(pca.encode(to_unit(clips))) - to_unit(clips)
    torch.testing.assert_close(error.sum(), full.square().sum())


@pytest.mark.parametrize("shape", [(9, 16), (5, 8), (17, 32)])
def test_focused_crops_hold_what_the_linear_code_cannot_keep(clips, pca, shape):
    frames, pixels = shape
    crops = random_crops(clips, pca, shape, 40, 1.0, torch.Generator().manual_seed(0))
    assert crops.shape == (40, 3, frames, pixels, pixels)
    assert (crops.flatten(1).std(1) > 0.01).all()
    if shape == (9, 16):  # the noise is at every place that it can have in a crop
        rows = crops[:, 0].std((1, 3)) > 0.01
        assert len({tuple(row.tolist()) for row in rows}) > 1


def test_without_focus_crops_lie_anywhere_and_repeat(clips, pca):
    draw = [random_crops(clips, pca, (5, 8), 200, 0.0, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(draw[0], draw[1]) and not torch.equal(draw[0], draw[2])
    noisy = (draw[0].flatten(1).std(1) > 0.01).float().mean()
    assert 0.01 < noisy < 0.2  # 1 place of 24, in 2 of 4 times


def test_half_of_the_crops_are_focused(clips, pca):
    crops = random_crops(clips, pca, (5, 8), 200, 0.5, torch.Generator().manual_seed(4))
    assert 0.4 < (crops.flatten(1).std(1) > 0.01).float().mean() < 0.65


def test_a_batch_in_which_no_crop_is_focused(clips, pca):
    batches = [random_crops(clips, pca, (5, 8), 1, 0.5, torch.Generator().manual_seed(seed)) for seed in range(8)]
    assert all(crops.shape == (1, 3, 5, 8, 8) for crops in batches)
