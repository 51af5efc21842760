"""A server process over a random miniature checkpoint, as a user would start it, for tests that talk to it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

START_SECONDS = 300
PROMPT = "a red star moves left"
KEY = "test-key-1"


class VideoServer:
    """`hunyuan-video serve` on a free port. `http` is a client of its root; kept connections, no retries."""

    def __init__(self, data: Path, model: Path, *options: str, first_on_path: tuple[str, ...] = ()):
        self.data, self.model, self.options = data, model, options
        self.first_on_path = first_on_path
        self.start()

    def start(self) -> None:
        """Starts the process and waits until jobs can run."""
        command = [sys.executable, "-m", "hunyuan_video", "serve", "--port", "0", "--data", str(self.data)]
        command += ["--model", str(self.model), "--device", "cpu", *self.options]
        path = os.pathsep.join([*self.first_on_path, *(path for path in sys.path if path)])
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "PYTHONPATH": path}
        self.log = (self.data.parent / f"{self.data.name}.log").open("a+")
        begin = self.log.seek(0, os.SEEK_END)
        self.process = subprocess.Popen(command, stderr=self.log, stdout=self.log, env=environment)
        deadline = time.monotonic() + START_SECONDS
        while not (address := re.search(r"at (http://\S+) ", self.logged(begin))):
            assert self.process.poll() is None and time.monotonic() < deadline, self.logged(begin)
            time.sleep(0.02)
        self.url = address[1]
        self.http = httpx.Client(base_url=self.url, timeout=60, headers={"authorization": f"Bearer {KEY}"})
        while self.http.get("/health").status_code != 200:
            assert self.process.poll() is None and time.monotonic() < deadline, self.logged(begin)
            time.sleep(0.02)

    def logged(self, begin: int = 0) -> str:
        """Lines of the log from a position on."""
        with open(self.log.name) as file:
            file.seek(begin)
            return file.read()

    def create(self, **values: Any) -> dict[str, Any]:
        answer = self.http.post("/v1/videos", json={"prompt": PROMPT, "seed": 1, **values})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def video(self, id: str) -> dict[str, Any]:
        answer = self.http.get(f"/v1/videos/{id}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def until(self, id: str, condition: Any, seconds: float = 60) -> dict[str, Any]:
        """The video when condition(video) is true; AssertionError when it is not for too long."""
        deadline = time.monotonic() + seconds
        while not condition(video := self.video(id)):
            assert time.monotonic() < deadline, video
            time.sleep(0.01)
        return video

    def finished(self, id: str) -> bytes:
        """The mp4 of a video, when it is complete."""
        video = self.until(id, lambda video: video["status"] not in ("queued", "in_progress"))
        assert video["status"] == "completed", video
        return self.http.get(f"/v1/videos/{id}/content").content

    def kill(self) -> None:
        """Ends the process as `kill -9` does."""
        self.process.kill()
        self.process.wait()
        self.http.close()

    def stop(self) -> int:
        """Ends it politely; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        self.http.close()
        return code

    def workers(self) -> list[int]:
        """Process ids of the workers."""
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in listed.split()]
