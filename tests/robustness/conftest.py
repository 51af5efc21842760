from __future__ import annotations

import pytest

from robustness.world import build


@pytest.fixture(scope="package")
def world(tmp_path_factory):
    """Small valid inputs of every kind."""
    return build(tmp_path_factory.mktemp("world"))
