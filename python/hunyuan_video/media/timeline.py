"""When the frames of a video are on screen, and which of them a clip of another frame rate shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

COARSEST_ROUNDED = Fraction(1, 100)  # GIF's clock; the ticks of slower clocks are frames, not rounded times
SAME_RATE = Fraction(15, 10000)  # 23.976 per second is a name of 24: shown one to one, not with a frame twice
NTSC = (24, 30, 48, 60, 120)  # rates that come a thousandth slower, too
JITTER = Fraction(1, 1000)  # seconds


@dataclass(frozen=True)
class Timeline:
    """Frame i is on screen from times[i] to times[i + 1], the last one until `end`; seconds from the first frame."""

    times: tuple[Fraction, ...]  # ascending, the first is 0
    end: Fraction
    tick: Fraction = Fraction(0)  # of the clock that the times were rounded to

    @classmethod
    def of_durations(cls, durations: Sequence[Fraction], tick: Fraction) -> Timeline:
        """Frames that follow one another, with the seconds that each is shown."""
        times = [Fraction(0)]
        for duration in durations:
            times.append(times[-1] + duration)
        return cls(tuple(times[:-1]), times[-1], tick)

    def shown(self, fps: float, most: int | None = None) -> list[int]:
        """The frame on screen at 0, 1 / fps, 2 / fps, ... until the end: the last whose time has come.

        At most `most` of them. A time counts as come up to half a tick early, as it may have been rounded up.
        """
        step = 1 / rate(fps)
        line = self._conformed(step)
        slack = min(line.tick / 2, step / 4) if line.tick <= COARSEST_ROUNDED else Fraction(0)
        found: list[int] = []
        frame = 0
        while (most is None or len(found) < most) and (not found or len(found) * step < line.end - slack):
            now = len(found) * step + slack
            while frame + 1 < len(line.times) and line.times[frame + 1] <= now:
                frame += 1
            found.append(frame)
        return found

    def _conformed(self, step: Fraction) -> Timeline:
        """The same frames exactly `step` apart where they nearly are: NTSC's rates, and times rounded to a clock."""
        count = len(self.times)
        if count < 2:
            return self
        mean = (self.times[-1] - self.times[0]) / (count - 1)
        near = max(self.tick if self.tick <= COARSEST_ROUNDED else Fraction(0), JITTER)
        steady = all(abs(time - i * mean) <= near for i, time in enumerate(self.times))
        if abs(mean / step - 1) > SAME_RATE or not steady:
            return self
        last = max(round((self.end - self.times[-1]) / step), 1)
        return Timeline(tuple(i * step for i in range(count)), (count - 1 + last) * step)


def rate(fps: float) -> Fraction:
    """Frames per second as the fraction that was meant: 23.976 and 23.98 are 24000/1001."""
    for whole in NTSC:
        if abs(fps - whole / 1.001) < 0.005:
            return Fraction(1000 * whole, 1001)
    if fps >= 1:
        return Fraction(fps).limit_denominator(1001)
    return 1 / Fraction(1 / Fraction(fps)).limit_denominator(1001)
