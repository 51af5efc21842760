"""The closed-form latents of the VAE bootstrap."""

import pytest
import torch

from hunyuan_video.models.grid import Grid
from hunyuan_video.training.tasks.pca import PCALatents, blocks_of, principal


def test_blocks_cut_first_frame_and_groups_of_four():
    video = torch.arange(2 * 3 * 9 * 16 * 8, dtype=torch.float32).reshape(2, 3, 9, 16, 8)
    first, rest = blocks_of(video, Grid())
    assert first.shape == (2, 1, 2, 1, 192) and rest.shape == (2, 2, 2, 1, 768)
    assert torch.equal(first[1, 0, 1, 0].reshape(3, 8, 8), video[1, :, 0, 8:])
    assert torch.equal(rest[0, 1, 0, 0].reshape(3, 4, 8, 8), video[0, :, 5:9, :8])


def test_full_rank_code_is_lossless_and_unit_variance():
    video = torch.randn(40, 3, 5, 8, 8)
    pca = PCALatents.fit(video, Grid(192), whiten=0.5)
    latents = pca.encode(video)
    first = pca.decode(latents)[:, :, :1]
    assert latents.shape == (40, 192, 2, 1, 1)
    torch.testing.assert_close(first, video[:, :, :1], atol=2e-3, rtol=0)
    fitted = PCALatents.fit(video, Grid(4), whiten=1.0).encode(video)
    torch.testing.assert_close(fitted[:, :, 1].std(0, correction=0).flatten(), torch.ones(4), atol=1e-2, rtol=0)


def test_more_components_reconstruct_better():
    torch.manual_seed(1)
    smooth = torch.nn.functional.interpolate(torch.randn(30, 3, 3, 4, 4), size=(5, 16, 16), mode="trilinear")
    errors = [
        (PCALatents.fit(smooth, Grid(k), 0.5).decode(PCALatents.fit(smooth, Grid(k), 0.5).encode(smooth)) - smooth)
        .square()
        .mean()
        for k in (2, 8, 24)
    ]
    assert errors[0] > errors[1] > errors[2]


@pytest.mark.parametrize("rows", [8, 20, 40, 41])  # of 40 columns: by either way
def test_principal_directions_of_few_and_of_many_rows(rows):
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(rows, 40, generator=generator, dtype=torch.float64) * torch.linspace(3, 0.1, 40)
    centered = drawn - drawn.mean(0)
    variance, directions = principal(centered, 6)
    torch.testing.assert_close((centered @ directions).square().mean(0), variance)
    torch.testing.assert_close(directions.T @ directions, torch.eye(6, dtype=torch.float64))
    torch.testing.assert_close(variance, torch.linalg.eigvalsh(centered.T @ centered / rows).flip(0)[:6])
