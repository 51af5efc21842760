"""Plain lines in a log, a bar on a terminal."""

from __future__ import annotations

import io

import pytest

from hunyuan_video.cli import progress
from hunyuan_video.cli.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that is read by the progress and set by the test."""
    times = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: times[0])
    return times


def test_plain_lines_come_at_most_every_two_seconds_and_at_the_end(clock, capsys):
    bar = Progress("sampling", 10, start=2)
    for step in range(3, 11):
        clock[0] += 0.75
        bar.update(step)
    bar.close()
    assert capsys.readouterr().err.splitlines() == [
        "sampling: step 5/10, 0.75 s/step, 4 s left",
        "sampling: step 8/10, 0.75 s/step, 2 s left",
        "sampling: step 10/10, 0.75 s/step, 0 s left",
    ]


def test_a_terminal_gets_a_bar_with_rate_and_time_left(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    bar = Progress("sampling", 4, start=1)
    for step in (2, 3, 4):
        bar.update(step)
    bar.close()
    text = terminal.getvalue()
    assert "\r" in text and "4/4" in text and "sampling" in text and "1/4" in text
