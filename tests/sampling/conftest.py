"""A random miniature checkpoint, written once per session."""

from __future__ import annotations

import pytest
from helpers.random_checkpoint import write_random_checkpoint


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """Folder of a random checkpoint without guidance embedding (4 steps, CFG 3, 32x48, 5 frames)."""
    return write_random_checkpoint(tmp_path_factory.mktemp("random-checkpoint"))


@pytest.fixture(scope="session")
def pipe(checkpoint):
    from hunyuan_video import HunyuanVideoPipeline

    return HunyuanVideoPipeline.from_pretrained(checkpoint, device="cpu")
