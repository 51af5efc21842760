"""Muon: orthogonal updates, of matrices of one shape together."""

import pytest
import torch
from torch import nn

from hunyuan_video.training.muon import Muon, orthogonalise, scaled_updates


@pytest.mark.parametrize("shape", [(12, 40), (40, 12), (16, 16)])
def test_singular_values_become_nearly_one_and_directions_stay(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    result = orthogonalise(matrix)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    assert result.dtype == torch.float32
    assert (torch.linalg.svdvals(result) - 0.95).abs().max() < 0.35  # the quintic leaves them between 0.7 and 1.2
    assert ((u.mT @ result @ v.mT).diagonal() > 0.6).all()


def test_matrices_orthogonalised_together_are_those_of_each_alone():
    generator = torch.Generator().manual_seed(2)
    matrices = torch.randn(5, 6, 14, generator=generator) * torch.tensor([1e-3, 1.0, 30.0, 1.0, 1.0])[:, None, None]
    for together, matrix in zip(orthogonalise(matrices), matrices, strict=True):
        torch.testing.assert_close(together, orthogonalise(matrix), rtol=0.02, atol=0.01)


def test_a_zero_gradient_moves_nothing():
    assert (orthogonalise(torch.zeros(3, 4, 5)) == 0).all()


def test_updates_of_mixed_shapes_come_back_in_their_places():
    generator = torch.Generator().manual_seed(3)
    shapes = [(4, 6), (8, 2, 3, 1, 1), (4, 6), (6, 4), (8, 6)]
    ahead = [torch.randn(shape, generator=generator) for shape in shapes]
    for update, tensor in zip(scaled_updates(ahead), ahead, strict=True):
        alone = orthogonalise(tensor.flatten(1)) * 0.2 * max(tensor.flatten(1).shape) ** 0.5
        torch.testing.assert_close(update, alone.view_as(tensor), rtol=0.02, atol=0.02)


def test_a_step_is_momentum_ahead_decay_and_the_scaled_update():
    torch.manual_seed(4)
    first, second, idle = (nn.Parameter(torch.randn(3, 5)) for _ in range(3))
    muon = Muon([first, second, idle], lr=0.1, momentum=0.9, weight_decay=0.5)
    expected = [p.detach().clone() for p in (first, second)]
    momenta = [torch.zeros(3, 5), torch.zeros(3, 5)]
    for _ in range(2):
        for index, parameter in enumerate((first, second)):
            parameter.grad = torch.randn(3, 5)
            momenta[index] = 0.9 * momenta[index] + 0.1 * parameter.grad
            update = orthogonalise(0.1 * parameter.grad + 0.9 * momenta[index]) * 0.2 * 5**0.5
            expected[index] = expected[index] * (1 - 0.1 * 0.5) - 0.1 * update
        before = idle.detach().clone()
        muon.step()
        for parameter, wanted in zip((first, second), expected, strict=True):
            torch.testing.assert_close(parameter.detach(), wanted, rtol=0, atol=4e-3)  # bfloat16 inside
        assert torch.equal(idle, before)
