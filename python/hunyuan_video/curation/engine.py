"""Engines: what runs the work of many sources. The local one is a pool of processes; Ray's is in ray_engine.py."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

from hunyuan_video.curation.analysis import Models
from hunyuan_video.curation.ray_engine import run_ray
from hunyuan_video.curation.sources import SourceFile
from hunyuan_video.curation.work import LOST, Outcome, curate_source, prepare_worker

AHEAD = 2  # sources a worker that wait in the pool's queue
_models: Models | None = None


def run_here(sources: Sequence[SourceFile], output: Path) -> Iterator[Outcome]:
    """One source after the other, in this process."""
    models = Models()
    for source in sources:
        yield curate_source(source, output, models)


def run_local(sources: Sequence[SourceFile], output: Path, workers: int) -> Iterator[Outcome]:
    """Sources in a pool of processes, each outcome as it comes.

    A worker that the system kills costs its source: those that ran at that moment are tried once more alone, and a
    source that is lost again is refused.
    """
    if workers == 1 or len(sources) == 1:
        yield from run_here(sources, output)
        return
    suspects: list[SourceFile] = []
    waiting = list(sources)
    while waiting:
        pending: dict[Future[Outcome], SourceFile] = {}
        with _pool(min(workers, len(waiting))) as pool:
            try:
                while waiting or pending:
                    while waiting and len(pending) < workers * AHEAD:
                        source = waiting.pop(0)
                        pending[pool.submit(_task, source, output)] = source
                    done, _ = wait(pending, return_when=FIRST_COMPLETED)
                    for future in done:
                        outcome = future.result()
                        del pending[future]
                        yield outcome
            except BrokenProcessPool:
                suspects += pending.values()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    for source in suspects:
        try:
            with _pool(1) as pool:
                yield pool.submit(_task, source, output).result()
        except BrokenProcessPool:
            yield Outcome(source.name, 0, LOST, lasting=False)


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Fresh processes, which do not run the program again that starts them: it may have no guard around its work."""
    threads = max((os.cpu_count() or 1) // workers, 1)
    main = sys.modules["__main__"]
    hidden = {name: getattr(main, name) for name in ("__file__", "__spec__") if hasattr(main, name)}
    with ProcessPoolExecutor(workers, get_context("spawn"), _start, (threads,)) as pool:
        try:
            for name in hidden:
                setattr(main, name, None)
            yield pool
        finally:
            for name, value in hidden.items():
                setattr(main, name, value)


def _start(threads: int) -> None:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent tells when to stop
    prepare_worker(threads)


def _task(source: SourceFile, output: Path) -> Outcome:
    global _models
    if _models is None:
        _models = Models()
    return curate_source(source, output, _models)


Engine = Callable[[Sequence[SourceFile], Path, int], Iterator[Outcome]]
ENGINES: dict[str, Engine] = {"local": run_local, "ray": run_ray}
