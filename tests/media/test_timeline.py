"""Which frame is on screen when: the last whose time has come, for as long as it is shown."""

from __future__ import annotations

from fractions import Fraction
from math import lcm

import pytest

from hunyuan_video.media.timeline import Timeline, rate

MS = Fraction(1, 1000)


def line(times, end, tick=Fraction(1, 90000)):
    """Timeline of times in seconds, whatever their fractions, read from a clock."""
    unit = Fraction(1, lcm(*(Fraction(time).denominator for time in (*times, end))))
    return Timeline(tuple(int(time / unit) for time in times), int(end / unit), unit, tick)


def by_hand(times, end, fps):
    """The rule itself, frame by frame."""
    result, number = [], 0
    while not result or Fraction(number) / fps < end:
        result.append(max(i for i, time in enumerate(times) if time <= Fraction(number) / fps))
        number += 1
    return result


@pytest.mark.parametrize(
    ("times", "end"),
    [
        ([0, 2], 4),  # a frame held for two seconds
        ([0, Fraction(1, 100), Fraction(1, 50), 1], Fraction(11, 10)),  # faster than asked, then a pause
        ([0, Fraction(1, 7), Fraction(2, 7), Fraction(5, 7)], Fraction(17, 14)),
        ([0], Fraction(1, 2)),
        ([Fraction(i, 5) for i in range(10)], 2),
        ([Fraction(i, 60) for i in range(60)], 1),
    ],
)
@pytest.mark.parametrize("fps", [24, 8, 30])
def test_the_frame_on_screen_is_the_last_that_has_come(times, end, fps):
    assert line(times, end).shown(fps) == by_hand(times, end, fps)


def test_a_frame_of_two_seconds_is_48_frames_of_24_and_the_last_one_counts():
    assert line([0, 2], Fraction(5, 2)).shown(24) == [0] * 48 + [1] * 12


def test_times_rounded_to_a_clock_give_every_frame_once():
    for tick in (MS, 10 * MS):
        for fps in (24, 25, 30, 24000 / 1001):
            exact = [Fraction(i) / rate(fps) for i in range(49)]
            times = [round(time / tick) * tick for time in exact]
            assert line(times[:-1], times[-1], tick).shown(fps) == list(range(48)), (tick, fps)


@pytest.mark.parametrize("fps, source", [(24, Fraction(24000, 1001)), (30, Fraction(30000, 1001)), (25, Fraction(25))])
def test_names_of_the_same_rate_are_shown_one_to_one(fps, source):
    times = [Fraction(i) / source for i in range(200)]
    assert line(times, 200 / source).shown(fps) == list(range(200))


def test_other_rates_near_by_are_not_the_same():
    times = [Fraction(i, 25) for i in range(50)]
    assert line(times, 2).shown(24) == by_hand(times, 2, 24)


def test_a_clock_that_counts_frames_does_not_round():
    times = [Fraction(i, 5) for i in range(10)]
    assert line(times, 2, Fraction(1, 5)).shown(24) == by_hand(times, 2, 24)


def test_a_pause_at_the_end_of_a_steady_video_is_kept():
    times = [Fraction(i, 24) for i in range(24)]
    assert line(times, 3).shown(24) == [*range(24), *[23] * 48]


def test_no_more_than_asked():
    assert line([0, 1], 100).shown(24, 30) == [0] * 24 + [1] * 6


@pytest.mark.parametrize(
    "fps, expected",
    [(23.976, Fraction(24000, 1001)), (24, 24), (7.5, 7.5), (1 / 3, Fraction(1, 3)), (0.01, Fraction("0.01"))],
)  # fmt: skip
def test_rates_are_the_fractions_that_were_meant(fps, expected):
    assert rate(fps) == expected
