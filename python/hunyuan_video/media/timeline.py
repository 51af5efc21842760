"""When the frames of a video are on screen, and which of them a clip of another frame rate shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import lcm

COARSEST_ROUNDED = Fraction(1, 100)  # GIF's clock; the ticks of slower clocks are frames, not rounded times
SAME_RATE = Fraction(15, 10000)  # 23.976 per second is a name of 24: shown one to one, not with a frame twice
NTSC = (24, 30, 48, 60, 120)  # rates that come a thousandth slower, too
JITTER = Fraction(1, 1000)  # seconds


@dataclass(frozen=True)
class Timeline:
    """Frame i is on screen from times[i] to times[i + 1], the last one until `end`; in units from the first frame."""

    times: tuple[int, ...]  # ascending, the first is 0
    end: int
    unit: Fraction  # seconds
    tick: Fraction | None = None  # seconds of the clock that the times were rounded to, where it is not the unit

    @classmethod
    def of_durations(cls, durations: Sequence[int], unit: Fraction, tick: Fraction) -> Timeline:
        """Frames that follow one another, with the units that each is shown."""
        times = [0]
        for duration in durations:
            times.append(times[-1] + duration)
        return cls(tuple(times[:-1]), times[-1], unit, tick)

    @property
    def seconds(self) -> float:
        return float(self.end * self.unit)

    def shown(self, fps: float, most: int | None = None) -> list[int]:
        """The frame on screen at 0, 1 / fps, 2 / fps, ... until the end: the last whose time has come.

        At most `most` of them. A time counts as come up to half a tick early, as it may have been rounded up.
        """
        step = 1 / (rate(fps) * self.unit)  # units
        if self._is_steady(step):
            last = max(round((self.end - self.times[-1]) / step), 1)
            return _on_screen(range(len(self.times)), len(self.times) - 1 + last, 1, 0, most)
        slack = min(self._rounding() / 2 / self.unit, step / 4)
        scale = lcm(step.denominator, slack.denominator)  # whole numbers from here
        times = [time * scale for time in self.times]
        return _on_screen(times, self.end * scale, int(step * scale), int(slack * scale), most)

    def _rounding(self) -> Fraction:
        """Seconds of the clock that the times were rounded to; 0 where it counts frames."""
        tick = self.unit if self.tick is None else self.tick
        return tick if tick <= COARSEST_ROUNDED else Fraction(0)

    def _is_steady(self, step: Fraction) -> bool:
        """True if the frames are meant to be `step` apart: NTSC's rates, and times that were rounded to a clock."""
        count = len(self.times) - 1
        if count < 1 or abs(self.times[-1] / (count * step) - 1) > SAME_RATE:
            return False
        near = int(max(self._rounding(), JITTER) * count / self.unit)
        return all(abs(time * count - i * self.times[-1]) <= near for i, time in enumerate(self.times))


def _on_screen(times: Sequence[int], end: int, step: int, slack: int, most: int | None) -> list[int]:
    frames: list[int] = []
    frame = 0
    while (most is None or len(frames) < most) and (not frames or len(frames) * step < end - slack):
        now = len(frames) * step + slack
        while frame + 1 < len(times) and times[frame + 1] <= now:
            frame += 1
        frames.append(frame)
    return frames


def rate(fps: float) -> Fraction:
    """Frames per second as the fraction that was meant: 23.976 and 23.98 are 24000/1001."""
    for whole in NTSC:
        if abs(fps - whole / 1.001) < 0.005:
            return Fraction(1000 * whole, 1001)
    if fps >= 1:
        return Fraction(fps).limit_denominator(1001)
    return 1 / Fraction(1 / Fraction(fps)).limit_denominator(1001)
