"""SSIM against its definition, window by window in float64."""

import pytest
import torch

from hunyuan_video.evaluation.ssim import ssim


def reference(a, b):
    place = torch.arange(11, dtype=torch.float64) - 5
    line = torch.exp(-(place**2) / 4.5)
    window = torch.outer(line, line) / line.sum() ** 2
    values = []
    for y in range(a.shape[0] - 10):
        for x in range(a.shape[1] - 10):
            u, v = a[y : y + 11, x : x + 11].double(), b[y : y + 11, x : x + 11].double()
            mu, mv = (window * u).sum(), (window * v).sum()
            su, sv = (window * (u - mu) ** 2).sum(), (window * (v - mv) ** 2).sum()
            suv = (window * (u - mu) * (v - mv)).sum()
            c1, c2 = 2.55**2, 7.65**2
            values.append((2 * mu * mv + c1) * (2 * suv + c2) / ((mu**2 + mv**2 + c1) * (su + sv + c2)))
    return torch.stack(values).mean().item()


def test_ssim_is_its_definition():
    generator = torch.Generator().manual_seed(0)
    a = torch.randint(0, 256, (1, 1, 14, 13, 3), generator=generator, dtype=torch.uint8)
    b = (a.float() * 0.7 + 20).to(torch.uint8)
    expected = sum(reference(a[0, 0, ..., c], b[0, 0, ..., c]) for c in range(3)) / 3
    assert ssim(a, b).item() == pytest.approx(expected, abs=1e-4)
    assert ssim(a, a).item() == pytest.approx(1.0, abs=1e-5)


def test_small_clips_are_refused():
    clip = torch.zeros(1, 1, 10, 16, 3, dtype=torch.uint8)
    with pytest.raises(ValueError, match="11 x 11"):
        ssim(clip, clip)
