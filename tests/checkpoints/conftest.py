"""Fixtures of the checkpoint tests."""

from __future__ import annotations

import pytest
from helpers.tiny_models import TINY, TINY_VAE, randomized

from hunyuan_video.models import CausalVAE, HunyuanVideoTransformer


@pytest.fixture
def transformer() -> HunyuanVideoTransformer:
    return randomized(HunyuanVideoTransformer(TINY))


@pytest.fixture
def vae() -> CausalVAE:
    return randomized(CausalVAE(TINY_VAE))
