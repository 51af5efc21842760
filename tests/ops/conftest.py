from __future__ import annotations

import pytest

from hunyuan_ext.core import native


@pytest.fixture
def switches(monkeypatch):
    """monkeypatch for what plans look at; decisions made before and under it are dropped."""
    native.forget()
    yield monkeypatch
    monkeypatch.undo()
    native.forget()
