"""Several runs over the same models in one thread: a step of each in turn, the urgent ones first.

A program that serves many people hands its runs to a `RunScheduler` and gets a `ScheduledRun` for each, which can be
read, paused, given another priority and canceled from any thread. A run's video is the same, bit for bit, whatever
runs beside it.
"""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Literal

from hunyuan_video.errors import UserError
from hunyuan_video.rules import check_count
from hunyuan_video.sampling.models import LoadedModels
from hunyuan_video.sampling.request import SampleRequest
from hunyuan_video.sampling.run import Finished, SampleOutput, SampleStream, StepEvent

Event = StepEvent | Finished
Status = Literal["waiting", "running", "paused", "finished", "failed", "canceled"]
ENDED = ("finished", "failed", "canceled")
MAX_ACTIVE = 1024


class ScheduledRun:
    """A run of a `RunScheduler`. Every method may be called from any thread.

    Iterating over it gives its events, blocking until each comes, and ends with the run; one reader, please. With an
    `on_event` of its own a run keeps no events, and iterating gives none.
    """

    def __init__(
        self,
        scheduler: RunScheduler,
        request: SampleRequest,
        priority: int,
        name: str,
        on_event: Callable[..., Any] | None,
    ):
        self.request = request
        self.name = name
        self.priority = priority
        self.status: Status = "waiting"
        self.error: BaseException | None = None
        self.output: SampleOutput | None = None
        self._scheduler = scheduler
        self._on_event = on_event
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._done = threading.Event()
        self._canceled = False
        self._stream: SampleStream | None = None
        self._turn = 0  # number of its latest turn, over all runs

    def __iter__(self) -> Iterator[Event]:
        while (event := self._events.get()) is not None:
            yield event
        self._events.put(None)  # for another reader, later
        if self.error is not None:
            raise self.error

    def pause(self) -> None:
        """No further step until `resume`; its place among the active runs stays taken. Nothing for an ended run."""
        self._scheduler._set_status(self, "paused", ("waiting", "running"))

    def resume(self) -> None:
        """Goes on after `pause`."""
        self._scheduler._set_status(self, "running" if self._stream else "waiting", ("paused",))

    def prioritize(self, priority: int) -> None:
        """Runs of a higher priority take their steps first; equal ones take turns."""
        self._scheduler._notify(lambda: setattr(self, "priority", priority))

    def cancel(self) -> None:
        """Ends the run after the step that is being computed, or within the decode; its state file stays."""
        self._scheduler._cancel(self)

    def wait(self, timeout: float | None = None) -> bool:
        """Waits for the end of the run, `timeout` seconds at most; True if it has ended."""
        return self._done.wait(timeout)

    def result(self, timeout: float | None = None) -> SampleOutput:
        """The output, when it is there; the run's own exception if it failed, UserError if it was canceled.

        TimeoutError after `timeout` seconds.
        """
        if not self._done.wait(timeout):
            raise TimeoutError(f"the run has not ended within {timeout} seconds")
        if self.error is not None:
            raise self.error
        if self.output is None:
            raise UserError("the run was canceled; a state file of checkpoint_to continues with resume_from")
        return self.output

    def _emit(self, event: Event) -> None:
        if self._on_event is None:
            self._events.put(event)
        else:
            self._on_event(self, event)


class RunScheduler:
    """A thread that computes the runs that are submitted, `active` of them side by side, a step of each in turn.

    Of the runs that wait, the one of the highest priority starts first, the oldest among equals. on_turn(run) is called
    in the scheduler's thread before a run computes. As a context manager it waits for its runs at the end.
    """

    def __init__(self, models: LoadedModels, *, active: int = 2, on_turn: Callable[[ScheduledRun], Any] | None = None):
        self.models = models
        self.active = check_count("active", active, MAX_ACTIVE)
        self._on_turn = on_turn
        self._runs: list[ScheduledRun] = []  # not ended, by age
        self._changed = threading.Condition()
        self._closed = False
        self._turns = itertools.count(1)
        self._thread = threading.Thread(target=self._work, name="runs", daemon=True)
        self._thread.start()

    def submit(
        self,
        request: SampleRequest,
        *,
        priority: int = 0,
        name: str = "",
        on_event: Callable[[ScheduledRun, Event], Any] | None = None,
    ) -> ScheduledRun:
        """Queues a run. ArgumentError at once for what no pipeline could do; other failures are the run's own.

        name: the caller's own, for on_turn and on_event.
        on_event(run, event): called in the scheduler's thread; what it raises ends the run, and no other.
        """
        request.check()
        run = ScheduledRun(self, request, priority, name, on_event)
        with self._changed:
            if self._closed:
                raise UserError("this scheduler is closed; make another one")
            self._runs.append(run)
            self._changed.notify_all()
        return run

    def close(self, *, cancel: bool = False) -> None:
        """Takes no more runs, and returns when those that are there have ended; cancel: they end after their step."""
        with self._changed:
            self._closed = True
            if cancel:
                for run in self._runs:
                    self._request_cancel(run)
            self._changed.notify_all()
        self._thread.join()

    def __enter__(self) -> RunScheduler:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(cancel=error is not None)

    def _set_status(self, run: ScheduledRun, status: Status, before: tuple[str, ...]) -> None:
        with self._changed:
            if run.status in before:
                run.status = status
                self._changed.notify_all()

    def _notify(self, change: Callable[[], Any]) -> None:
        with self._changed:
            change()
            self._changed.notify_all()

    def _cancel(self, run: ScheduledRun) -> None:
        self._notify(lambda: self._request_cancel(run))

    @staticmethod
    def _request_cancel(run: ScheduledRun) -> None:
        run._canceled = True
        if run._stream is not None:
            run._stream.cancel()

    def _work(self) -> None:
        while (run := self._next()) is not None:
            self._take_turn(run)

    def _next(self) -> ScheduledRun | None:
        """The run whose turn it is, when there is one; None when the scheduler is closed and nothing is left."""
        with self._changed:
            while True:
                if (run := self._choose()) is not None:
                    run.status = "running"
                    run._turn = next(self._turns)
                    return run
                if self._closed and not self._runs:
                    return None
                self._changed.wait()

    def _choose(self) -> ScheduledRun | None:
        canceled = [run for run in self._runs if run._canceled]
        if canceled:
            return canceled[0]
        started = [run for run in self._runs if run._stream is not None]
        waiting = [run for run in self._runs if run.status == "waiting"]
        free = self.active - len(started)
        by_age = sorted(waiting, key=lambda run: -run.priority)[: max(free, 0)]
        ready = [run for run in started if run.status != "paused"] + by_age
        return min(ready, key=lambda run: (-run.priority, run._turn), default=None)

    def _take_turn(self, run: ScheduledRun) -> None:
        try:
            event = None if run._canceled and run._stream is None else self._advance(run)
        except BaseException as error:  # the run's reader gets it, whatever it is; the other runs go on
            self._end(run, "failed", error)
            return
        if event is None:
            self._end(run, "canceled")
        elif isinstance(event, Finished):
            run.output = event.output
            self._end(run, "finished")

    def _advance(self, run: ScheduledRun) -> Event | None:
        """The run's next event, None when it was canceled."""
        if self._on_turn is not None:
            self._on_turn(run)
        if run._stream is None:
            stream = SampleStream(self.models, run.request)
            with self._changed:
                run._stream = stream
                if run._canceled:
                    stream.cancel()
        event = next(run._stream, None)
        if event is not None:
            run._emit(event)
        return event

    def _end(self, run: ScheduledRun, status: Status, error: BaseException | None = None) -> None:
        if run._stream is not None:
            run._stream.close()
            run._stream = None
        with self._changed:
            self._runs.remove(run)
            run.status, run.error = status, error
            self._changed.notify_all()
        run._events.put(None)
        run._done.set()
