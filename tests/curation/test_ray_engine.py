"""The Ray engine: on a local cluster of two workers where Ray is installed; its bookkeeping on a stand-in elsewhere."""

from __future__ import annotations

import itertools
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from hunyuan_video.curation import ray_engine
from hunyuan_video.curation.sources import SourceFile
from hunyuan_video.curation.work import LOST, Outcome
from hunyuan_video.errors import UserError


class RayError(Exception):
    """An actor died."""


class RayTaskError(RayError):
    """A task raised `cause`."""

    def __init__(self, cause: Exception):
        super().__init__(str(cause))
        self.cause = cause


class Method:
    """A method of an actor: `remote` gives a reference, whose value comes when it is asked for."""

    def __init__(self, ray: StandIn, call):
        self.ray, self.call = ray, call

    def remote(self, *values):
        reference = next(self.ray.numbers)
        self.ray.calls[reference] = lambda: self.call(*values)
        return reference


class StandIn:
    """The part of Ray's API that the engine uses; `behave(name, attempt)` is the work on a source."""

    def __init__(self, behave, starts=lambda number: True):
        self.behave, self.starts = behave, starts
        self.numbers, self.actors = itertools.count(), itertools.count()
        self.calls, self.attempts, self.killed, self.most = {}, {}, [], 0
        self.dark = False
        self.exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def is_initialized(self):
        return True

    def remote(self, kind):
        assert kind is ray_engine.Worker
        return SimpleNamespace(options=lambda **options: SimpleNamespace(remote=self._actor))

    def _actor(self):
        number = next(self.actors)

        def ready():
            if not self.starts(number):
                raise RayError("no room\nfor it")
            return True

        return SimpleNamespace(ready=Method(self, ready), curate=Method(self, self._curate), number=number)

    def _curate(self, source, output):
        assert output.is_absolute() and source.path.is_absolute()
        self.attempts[source.name] = self.attempts.get(source.name, 0) + 1
        return self.behave(source.name, self.attempts[source.name])

    def nodes(self):
        return [{"Alive": not self.dark}]

    def wait(self, references, num_returns, timeout):
        if self.dark:
            return [], references
        self.most = max(self.most, len(references))
        return [references[-1]], references[:-1]

    def get(self, reference):
        return self.calls.pop(reference)()

    def kill(self, actor):
        self.killed.append(actor.number)


def run(ray, monkeypatch, count=5, workers=2):
    monkeypatch.setattr(ray_engine, "optional_package", lambda *_: ray)
    sources = [SourceFile(Path(f"{number}.mp4"), f"{number}.mp4", "") for number in range(count)]
    return list(ray_engine.run_ray(sources, Path("out"), workers))


def test_every_source_once_and_no_more_at_a_time_than_workers(monkeypatch):
    ray = StandIn(lambda name, attempt: Outcome(name, 1))
    assert sorted(outcome.name for outcome in run(ray, monkeypatch)) == [f"{number}.mp4" for number in range(5)]
    assert set(ray.attempts.values()) == {1} and ray.most <= 2 and sorted(ray.killed) == [0, 1]


def test_a_source_whose_actor_dies_is_tried_once_more(monkeypatch):
    def behave(name, attempt):
        if name == "3.mp4" or (name == "1.mp4" and attempt == 1):
            raise RayError("killed")
        return Outcome(name, 1)

    ray = StandIn(behave)
    outcomes = {outcome.name: outcome for outcome in run(ray, monkeypatch)}
    assert len(outcomes) == 5 and outcomes["3.mp4"].refused == LOST and not outcomes["3.mp4"].lasting
    assert not outcomes["1.mp4"].refused and ray.attempts == {
        "0.mp4": 1,
        "1.mp4": 2,
        "2.mp4": 1,
        "3.mp4": 2,
        "4.mp4": 1,
    }


def test_actors_that_do_not_start(monkeypatch):
    works = StandIn(lambda name, attempt: Outcome(name, 1), starts=lambda number: number == 2)
    assert len(run(works, monkeypatch)) == 5, "one that comes up does all"
    with pytest.raises(UserError, match="do not start .for it."):
        run(StandIn(lambda name, attempt: Outcome(name, 1), starts=lambda number: False), monkeypatch)


def test_a_cluster_without_a_node(monkeypatch):
    ray = StandIn(lambda name, attempt: Outcome(name, 1))
    ray.dark = True
    with pytest.raises(UserError, match="no node left"):
        run(ray, monkeypatch)


def test_what_a_user_can_mend_ends_the_run_in_one_line(monkeypatch):
    def full(name, attempt):
        raise RayTaskError(UserError("cannot write out: no space"))

    with pytest.raises(UserError, match="^cannot write out: no space$"):
        run(StandIn(full), monkeypatch)


def test_without_ray(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(UserError, match=r"--engine ray needs ray .*hunyuan-ext\[ray\]"):
        next(ray_engine.run_ray([SourceFile(tmp_path / "a.mp4", "a.mp4", "")], tmp_path, 1))


class Dying(ray_engine.Worker):
    """A worker that is killed (SIGKILL) under the third source, the first time."""

    def __init__(self):
        pass

    def curate(self, source, output):
        mark = output / "killed"
        if source.name == "2.mp4" and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return Outcome(source.name, 1)


def test_a_local_cluster_goes_on_when_a_worker_is_killed(tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray_engine, "Worker", Dying)
    sources = [SourceFile(tmp_path / f"{number}.mp4", f"{number}.mp4", "") for number in range(6)]
    outcomes = list(ray_engine.run_ray(sources, tmp_path, 2))
    assert sorted(outcome.name for outcome in outcomes) == [source.name for source in sources]
    assert not any(outcome.refused for outcome in outcomes) and (tmp_path / "killed").exists()
    assert not ray.is_initialized()
