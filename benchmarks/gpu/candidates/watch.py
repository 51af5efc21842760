"""Clock and power of a GPU while it computes, by NVML, and an end for a kernel that hangs."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable


class Meter:
    """SM clock in MHz and watts of a device, over a stretch of work. Zeros where there is no NVML."""

    def __init__(self, index: int = 0) -> None:
        self.device = ctypes.c_void_p()
        try:
            self.library: ctypes.CDLL | None = ctypes.CDLL("libnvidia-ml.so.1")
            if self.library.nvmlInit_v2() or self.library.nvmlDeviceGetHandleByIndex_v2(
                index, ctypes.byref(self.device)
            ):
                self.library = None
        except OSError:
            self.library = None

    def clock(self) -> int:
        value = ctypes.c_uint()
        if self.library is None or self.library.nvmlDeviceGetClockInfo(self.device, 1, ctypes.byref(value)):
            return 0
        return value.value

    def millijoules(self) -> int:
        value = ctypes.c_ulonglong()
        if self.library is None or self.library.nvmlDeviceGetTotalEnergyConsumption(self.device, ctypes.byref(value)):
            return 0
        return value.value

    def over(self, work: Callable[[], float]) -> dict[str, float]:
        """The time that `work` returns, with mean clock and power while it ran."""
        clocks, done = [], threading.Event()

        def sample() -> None:
            while not done.wait(0.02):
                clocks.append(self.clock())

        sampler = threading.Thread(target=sample, daemon=True)
        started, energy = time.monotonic(), self.millijoules()
        sampler.start()
        milliseconds = work()
        seconds, energy = time.monotonic() - started, self.millijoules() - energy
        done.set()
        sampler.join()
        late = clocks[len(clocks) // 3 :] or [0]  # the clock settles first
        return {"ms": milliseconds, "mhz": sum(late) / len(late), "watts": energy / 1000 / seconds}


class Watchdog:
    """Ends the process (status 9) when nobody has called `alive` for `seconds`: a kernel hangs."""

    def __init__(self, seconds: float) -> None:
        self.last, self.seconds = time.monotonic(), seconds
        threading.Thread(target=self.watch, daemon=True).start()

    def alive(self) -> None:
        self.last = time.monotonic()

    def watch(self) -> None:
        while time.monotonic() - self.last < self.seconds:
            time.sleep(0.1)
        os._exit(9)
