"""The engine on a Ray cluster: actors that keep their models, each with one source at a time.

Only paths go out and counts come back: decoding and scoring happen in one actor, which writes the fragment itself, so
no picture ever lies in Ray's object store. All nodes need the package and the same paths (a shared file system).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hunyuan_video.curation.sources import SourceFile
from hunyuan_video.curation.work import LOST, Outcome, curate_source, prepare_worker
from hunyuan_video.errors import UserError
from hunyuan_video.lazy import optional_package

ATTEMPTS = 2  # of a source whose actor dies under it
LOOK = 30.0  # seconds without a result after which the cluster itself is looked at
FAILED_STARTS = 3  # of actors in a row, after which no further one is started


class Worker:
    """An actor: its models stay loaded from source to source."""

    def __init__(self) -> None:
        from hunyuan_video.curation.analysis import Models

        prepare_worker(1)
        self.models = Models()

    def ready(self) -> bool:
        return True

    def curate(self, source: SourceFile, output: Path) -> Outcome:
        return curate_source(source, output, self.models)


def run_ray(sources: Sequence[SourceFile], output: Path, workers: int) -> Iterator[Outcome]:
    """Sources over at most `workers` actors of one core each, each outcome as it comes.

    Joins the cluster of $RAY_ADDRESS, else starts a local one of `workers` cores. Actors that the cluster has no room
    for wait (its autoscaler sees them) and get no source until they are up. A source whose actor dies is given to
    another one, at most twice. UserError where Ray is missing, no actor comes up or no node is left, and as
    `curate_source`.
    """
    ray = optional_package("ray", "--engine ray", "ray")
    own = not ray.is_initialized()
    if own:
        _join(ray, workers)
    pool = _Pool(ray, output.absolute(), [replace(source, path=source.path.absolute()) for source in sources])
    try:
        for _ in range(min(workers, len(sources))):
            pool.start()
        while pool.waiting or pool.busy:
            yield from pool.step()
    finally:
        pool.close()
        if own:
            ray.shutdown()


def _join(ray: Any, workers: int) -> None:
    import os

    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    try:
        if os.environ.get("RAY_ADDRESS"):
            ray.init(log_to_driver=False, logging_level="ERROR")
        else:
            ray.init(num_cpus=workers, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"no Ray cluster can be reached or started ({first}); see RAY_ADDRESS") from error


@dataclass
class _Pool:
    """Actors by what they do: `starting` (reference of `ready` -> actor), `busy` (of `curate` -> actor and source)."""

    ray: Any
    output: Path
    waiting: list[SourceFile]
    starting: dict[Any, Any] = field(default_factory=dict)
    busy: dict[Any, tuple[Any, SourceFile]] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    failures: int = 0

    def start(self) -> None:
        actor = self.ray.remote(Worker).options(num_cpus=1, max_restarts=0).remote()
        self.starting[actor.ready.remote()] = actor

    def step(self) -> Iterator[Outcome]:
        """Waits until an actor is up, done or dead, and goes on from there."""
        done, _ = self.ray.wait([*self.starting, *self.busy], num_returns=1, timeout=LOOK)
        if not done and not any(node["Alive"] for node in self.ray.nodes()):
            raise UserError("the Ray cluster has no node left; start it again, the same command goes on from here")
        for reference in done:
            if reference in self.starting:
                self._came_up(reference)
            else:
                yield from self._came_back(reference)

    def _came_up(self, reference: Any) -> None:
        actor = self.starting.pop(reference)
        try:
            self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            self.failures += 1
            if self.failures < FAILED_STARTS and self.waiting:
                self.start()
            elif not self.busy and not self.starting:
                lines = str(error).strip().splitlines()
                raise UserError(f"workers of the Ray cluster do not start ({lines[-1] if lines else error})") from error
            return
        self.failures = 0
        self._give(actor)

    def _came_back(self, reference: Any) -> Iterator[Outcome]:
        actor, source = self.busy.pop(reference)
        try:
            yield self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise error.cause from None
            raise
        except self.ray.exceptions.RayError:  # the actor or its node died
            self.attempts[source.key] = self.attempts.get(source.key, 0) + 1
            if self.attempts[source.key] >= ATTEMPTS:
                yield Outcome(source.name, 0, LOST, lasting=False)
            else:
                self.waiting.append(source)
            if self.waiting:
                self.start()
            return
        self._give(actor)

    def _give(self, actor: Any) -> None:
        """The next source to an actor that is free; without one it ends, and its core with it."""
        if not self.waiting:
            self.ray.kill(actor)
            return
        source = self.waiting.pop(0)
        self.busy[actor.curate.remote(source, self.output)] = actor, source

    def close(self) -> None:
        for actor in [*self.starting.values(), *(actor for actor, _ in self.busy.values())]:
            self.ray.kill(actor)
