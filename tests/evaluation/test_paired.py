"""Differences over the same prompts: intervals that cover at small numbers, and the numbers that would tell."""

import itertools
import math

import numpy as np
import pytest

from hunyuan_video.errors import ArgumentError
from hunyuan_video.evaluation.intervals import clopper_pearson, mean_interval
from hunyuan_video.evaluation.paired import (
    agresti_min,
    paired_shares,
    paired_values,
    prompts_needed,
    smallest_visible,
)

pytest.importorskip("scipy")


def exact_coverage(n, gained, lost):
    """Probability that the interval holds gained - lost, over all tables of n prompts."""
    covered = 0.0
    for up, down in itertools.product(range(n + 1), repeat=2):
        if up + down <= n:
            low, high = agresti_min(up, down, n)
            same = n - up - down
            ways = math.comb(n, up) * math.comb(n - up, down)
            if low <= gained - lost <= high:
                covered += ways * gained**up * lost**down * (1 - gained - lost) ** same
    return covered


@pytest.mark.parametrize(("gained", "lost"), [(0.08, 0.03), (0.2, 0.1), (0.05, 0.05), (0.4, 0.1)])
@pytest.mark.parametrize("n", [6, 20, 50])
def test_the_interval_of_shares_covers_at_small_numbers(n, gained, lost):
    assert exact_coverage(n, gained, lost) > 0.94


def test_values_of_the_agresti_min_interval():
    assert agresti_min(0, 3, 6) == pytest.approx((-0.79041, 0.04041), abs=1e-5)  # (-3 +- 1.96 sqrt(4 - 9 / 8)) / 8


def test_smallest_visible_difference_and_number_that_tells():
    """The table of a study's plan: 20 % discordant prompts, 80 % power."""
    counts = (40, 100, 200, 500, 1000, 1533)
    visible = [smallest_visible(n, 0.2) for n in counts]
    assert visible == pytest.approx([0.198, 0.125, 0.089, 0.056, 0.040, 0.032], rel=0.03)
    assert [prompts_needed(least * 1.0001, 0.2) for least in visible] == list(counts)
    assert prompts_needed(0.05, 0.15) == 469 and prompts_needed(0.05, 0.5) == 1568
    assert prompts_needed(0.1, 0.02) == prompts_needed(0.1, 0.1)  # a tenth of difference needs a tenth of them
    assert smallest_visible(5, 0.05) is None


def test_verdicts_of_shares():
    right, wrong = [True] * 30, [False] * 30
    assert paired_shares(wrong, right).verdict == "better" and paired_shares(right, wrong).verdict == "worse"
    equal = paired_shares(right, right)
    assert equal.verdict == "cannot tell" and equal.difference == 0 and equal.low < 0 < equal.high
    assert equal.discordant_high == pytest.approx(1 - 0.025 ** (1 / 30))  # of none among 30
    assert equal.pairs_needed == prompts_needed(0.05, equal.discordant_high)


def test_values_have_students_interval_over_pairs():
    first, second = np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 2.5, 4.5, 5.0])  # differences 1, .5, 1.5, 1
    result = paired_values(first, second, interest=0.1)
    half = 3.182446 * math.sqrt(1 / 6) / 2
    assert (result.difference, result.low, result.high) == pytest.approx((1.0, 1 - half, 1 + half))
    assert result.verdict == "better" and result.pairs_needed > 100
    alone = paired_values([1.0], [5.0], interest=0.1)
    assert alone.verdict == "cannot tell" and alone.low is None and alone.pairs_needed is None


@pytest.mark.parametrize(("first", "second"), [([], []), ([True], [True, False])])
def test_unequal_or_no_prompts_are_refused(first, second):
    with pytest.raises(ArgumentError, match="one each for the same prompts"):
        paired_shares(first, second)


@pytest.mark.parametrize("interest", [0, -1, math.nan, math.inf])
def test_a_difference_of_interest_is_above_0(interest):
    for compare, values in ((paired_shares, [True]), (paired_values, [1.0, 2.0])):
        with pytest.raises(ArgumentError, match="--interest"):
            compare(values, values, interest)


def test_exact_interval_of_a_share_and_interval_of_a_mean():
    assert clopper_pearson(0, 100) == pytest.approx((0, 0.036217), abs=1e-6)
    assert clopper_pearson(3, 10) == pytest.approx((0.066740, 0.652453), abs=1e-6)
    assert clopper_pearson(7, 7)[1] == 1.0 and clopper_pearson(0, 0) == (0.0, 1.0)
    assert mean_interval([1.0, 3.0]) == pytest.approx((2 - 12.7062, 2 + 12.7062), abs=1e-3)
    assert mean_interval([1.0]) is None
