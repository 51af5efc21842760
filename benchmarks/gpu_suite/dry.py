"""Fake tensors for a dry run: shapes and dtypes of everything, values of nothing."""

from __future__ import annotations

from torch._subclasses.fake_tensor import FakeTensorMode


def fake_tensors() -> FakeTensorMode:
    """A context in which tensors are made and computed without memory; those that exist already count as fake."""
    return FakeTensorMode(allow_non_fake_inputs=True)
