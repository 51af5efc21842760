"""The tolerance helper is code that can be wrong too."""

import pytest
import torch
from op_accuracy import assert_error_within, max_error

EXACT = torch.tensor([1.0, -2.0, 4.0], dtype=torch.float64)


def test_accepts_twice_the_baseline_error():
    baseline = (EXACT + torch.tensor([0.0, 0.0, 1e-3])).float()
    assert_error_within((EXACT - torch.tensor([1.9e-3, 0.0, 0.0])).float(), EXACT, baseline)


def test_rejects_more_than_twice_the_baseline_error():
    baseline = (EXACT + torch.tensor([0.0, 0.0, 1e-3])).float()
    with pytest.raises(AssertionError, match="error 0.00201"):
        assert_error_within((EXACT - torch.tensor([2.01e-3, 0.0, 0.0])).float(), EXACT, baseline)


def test_an_exact_baseline_still_allows_one_rounding():
    nudged = torch.nextafter(EXACT.float(), torch.tensor(10.0))
    assert_error_within(nudged, EXACT, EXACT.float())
    with pytest.raises(AssertionError):
        assert_error_within(EXACT.float() + 1e-6, EXACT, EXACT.float())


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_rejects_a_poisoned_element(poison):
    out = EXACT.float()
    out[1] = poison
    with pytest.raises(AssertionError):
        assert_error_within(out, EXACT, EXACT.float() + 1)


def test_rejects_wrong_shape_dtype_or_oracle():
    with pytest.raises(AssertionError, match="shapes"):
        assert_error_within(EXACT.float()[:2], EXACT, EXACT.float())
    with pytest.raises(AssertionError, match="dtype"):
        assert_error_within(EXACT.bfloat16(), EXACT, EXACT.float())
    with pytest.raises(AssertionError, match="float64"):
        assert_error_within(EXACT.float(), EXACT.float(), EXACT.float())


def test_max_error_of_matching_nan_and_of_nothing():
    nan = torch.tensor([float("nan"), 1.0])
    assert max_error(nan, nan.double()) == 0
    assert max_error(torch.empty(0), torch.empty(0)) == 0
