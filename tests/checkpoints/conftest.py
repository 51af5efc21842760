"""Fixtures of the checkpoint tests."""

from __future__ import annotations

import pytest
from helpers.tiny_models import TINY, TINY_VAE, randomised

from hunyuan_video.models import CausalVAE, HunyuanVideoTransformer


@pytest.fixture
def transformer() -> HunyuanVideoTransformer:
    return randomised(HunyuanVideoTransformer(TINY))


@pytest.fixture
def vae() -> CausalVAE:
    return randomised(CausalVAE(TINY_VAE))
