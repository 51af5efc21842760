"""Kills at any moment: of the server, of a worker, again and again; and a polite end. Nothing is lost or doubled.

KILL_MOMENTS=20 python -m pytest tests/serving/test_survival.py -k moments
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time

import pytest

MOMENTS = int(os.environ.get("KILL_MOMENTS", "2"))
STEPS = 80


@pytest.fixture(scope="module")
def unbroken(server):
    """The bytes of the job that the tests break."""
    return server.finished(server.create(num_inference_steps=STEPS)["id"])


def test_kill_at_random_moments_loses_and_changes_nothing(start, unbroken):
    """A finished job, one that runs and queued ones, through `kill -9` of the server at MOMENTS random moments."""
    server = start("--active", "1")
    done = server.create(num_inference_steps=2)["id"]
    finished = server.finished(done)
    chance = random.Random(5)
    waiting: list[str] = []
    for _ in range(MOMENTS):
        waiting += [server.create(num_inference_steps=STEPS)["id"] for _ in range(2)]
        time.sleep(chance.uniform(0, 1.5))
        seen = {id: server.video(id)["step"] for id in waiting}
        workers = server.workers()
        server.kill()
        deadline = time.monotonic() + 10
        while any(alive(pid) for pid in workers):
            assert time.monotonic() < deadline, "a worker lives on without its server"
            time.sleep(0.01)
        server.start()
        assert server.http.get(f"/v1/videos/{done}/content").content == finished
        if running := [id for id in waiting if server.video(id)["status"] == "in_progress"]:
            assert len(running) == 1
            video = server.until(running[0], lambda video: video["step"] > 0)
            assert video["step"] > min(seen[running[0]], STEPS - 1), "it began again"
    contents = [server.finished(id) for id in waiting]
    assert contents == [unbroken] * len(contents)
    listed = server.http.get("/v1/videos?limit=100").json()["data"]
    assert sorted(video["id"] for video in listed) == sorted([done, *waiting])
    assert server.stop() == 0


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_polite_end_stops_after_a_step_and_goes_on(start, unbroken):
    server = start()
    ids = [server.create(num_inference_steps=STEPS)["id"] for _ in range(4)]
    with server.http.stream("GET", "/v1/events") as response:
        server.until(ids[0], lambda video: video["step"] > 3)
        began = time.monotonic()
        assert server.stop() == 0, server.logged()
        assert time.monotonic() - began < 20
        with contextlib.suppress(Exception):
            response.read()
    assert "Traceback" not in server.logged()
    server.start()
    assert [server.finished(id) for id in ids] == [unbroken] * 4
    assert server.stop() == 0


def test_a_worker_that_dies_is_replaced_and_its_job_goes_on(start, unbroken):
    server = start()
    id = server.create(num_inference_steps=STEPS)["id"]
    server.until(id, lambda video: video["step"] > 3)
    os.kill(server.workers()[0], signal.SIGKILL)
    assert server.finished(id) == unbroken
    assert "hunyuan_video_worker_deaths_total 1.0" in server.http.get("/metrics").text
    assert server.stop() == 0


def test_a_job_that_kills_workers_twice_is_failed_and_the_others_are_not(start, tmp_path, unbroken):
    """The culprit is the job whose piece was being computed, not the one beside it."""
    poison = tmp_path / "sitecustomize.py"  # a worker that ends in every step of a video of one frame
    poison.write_text(
        "import os, sys\n"
        "if 'serving.worker' in ' '.join(sys.orig_argv):\n"
        "    from hunyuan_video.sampling import denoise\n"
        "    whole = denoise.GuidedVelocity.__call__\n"
        "    def fragile(self, latents, sigma):\n"
        "        if latents.shape[2] == 1: os._exit(9)\n"
        "        return whole(self, latents, sigma)\n"
        "    denoise.GuidedVelocity.__call__ = fragile\n"
    )
    server = start(first_on_path=(str(tmp_path),))
    good, bad = server.create(num_inference_steps=STEPS)["id"], server.create(num_frames=1)["id"]
    video = server.until(bad, lambda video: video["status"] == "failed")
    assert video["error"]["code"] == "worker_crashed" and "2 times" in video["error"]["message"]
    assert server.finished(good) == unbroken
    assert server.stop() == 0


def test_one_server_a_folder(checkpoint, server, capfd):
    from hunyuan_video.cli import main

    command = ["serve", "--port", "0", "--data", str(server.data), "--model", str(checkpoint)]
    assert main(command) == 1
    assert "another server uses" in capfd.readouterr().err
