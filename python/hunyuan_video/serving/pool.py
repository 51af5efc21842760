"""The worker processes, seen from the server: one a device, replaced when it dies."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from hunyuan_video.serving.config import ServerConfig

log = logging.getLogger("hunyuan_video.serving")
FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0  # seconds before a worker that died while loading is started again
LINE_LIMIT = 64 << 20  # bytes of a message: previews of long videos
Handler = Callable[["WorkerProcess", dict[str, Any]], None]


class WorkerProcess:
    """One worker and what it is doing."""

    def __init__(self, device: str | None, config: ServerConfig, on_message: Handler, on_death: Handler):
        self.device, self.config = device, config
        self._on_message, self._on_death = on_message, on_death
        self._process: asyncio.subprocess.Process | None = None
        self.ready = False
        self.active: set[str] = set()  # ids of its jobs
        self.working: str | None = None  # the job whose piece it computes
        self.loras: list[Any] = []
        self.starts = 0
        self.closing = False
        self._wait = FIRST_WAIT
        self._task: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def free(self) -> int:
        """Number of further jobs that it takes now."""
        return self.config.active - len(self.active) if self.ready and not self.closing else 0

    def start(self) -> None:
        """Begins to run the process, again and again. In the main thread: the system kills it when this one ends."""
        self._task = asyncio.create_task(self._keep())

    def send(self, **message: Any) -> None:
        """A message; lost where the process has just died, which is noticed elsewhere."""
        if self._process is not None and self._process.stdin is not None and self._process.returncode is None:
            with suppress(ConnectionError, RuntimeError):
                self._process.stdin.write(json.dumps(message).encode() + b"\n")

    async def close(self, seconds: float) -> None:
        """Lets its jobs stop after their step; kills it when that takes longer."""
        was_ready, self.closing = self.ready, True
        self.send(drain=True)
        if self._task is None:
            return
        done, _ = await asyncio.wait([self._task], timeout=seconds if was_ready else 0)
        if not done:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()

    async def _keep(self) -> None:
        while True:
            was_ready = await self._run_once()
            if self.closing:
                return
            if not was_ready:
                await asyncio.sleep(self._wait)
                self._wait = min(2 * self._wait, LONGEST_WAIT)

    async def _run_once(self) -> bool:
        """Runs one process to its end; True if it had loaded its models."""
        self.starts += 1
        self._process = process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "hunyuan_video.serving.worker",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=LINE_LIMIT,
        )  # fmt: skip
        names = ("model", "dtype", "adapter", "threads", "active")
        settings = {name: getattr(self.config, name) for name in names}
        self.send(**settings, device=self.device, parent=os.getpid())
        assert process.stdout is not None
        try:
            while line := await process.stdout.readline():
                message = json.loads(line)
                self.closing = self.closing or "fatal" in message
                if "ready" in message:
                    self.ready, self._wait = True, FIRST_WAIT
                self._on_message(self, message)
            code = await process.wait()
        except asyncio.CancelledError:
            self.kill()
            raise
        was_ready, self.ready = self.ready, False
        if not self.closing:
            log.error("a worker ended with code %s%s", code, f" in job {self.working}" if self.working else "")
        self._on_death(self, {"code": code})
        self.active, self.working, self.loras = set(), None, []
        return was_ready


class Pool:
    """A worker for each device."""

    def __init__(self, config: ServerConfig, on_message: Handler, on_death: Handler):
        devices: tuple[str | None, ...] = config.devices or (None,)
        self.workers = [WorkerProcess(device, config, on_message, on_death) for device in devices]

    def start(self) -> None:
        for worker in self.workers:
            worker.start()

    @property
    def ready(self) -> bool:
        """True if jobs can run."""
        return any(worker.ready for worker in self.workers)

    def of(self, job: str) -> WorkerProcess | None:
        """The worker that has a job."""
        return next((worker for worker in self.workers if job in worker.active), None)

    def taker(self, loras: list[Any]) -> WorkerProcess | None:
        """The least busy worker that can take a job with these LoRAs: one without jobs, or with jobs of the same."""
        takers = [worker for worker in self.workers if worker.free > 0 and (not worker.active or worker.loras == loras)]
        return min(takers, key=lambda worker: (len(worker.active), worker.loras != loras), default=None)

    def send(self, **message: Any) -> None:
        for worker in self.workers:
            worker.send(**message)

    async def close(self, seconds: float) -> None:
        await asyncio.gather(*(worker.close(seconds) for worker in self.workers), return_exceptions=True)
