"""Load on a server: many jobs from many clients at once; none lost or doubled, memory, and how fast it answers.

    python benchmarks/soak.py --model FOLDER --jobs 1000 --clients 50 -o benchmarks/results/serving-soak.json

Each client creates a job, asks for its state until it is over, and downloads the video; on a full queue it waits as
long as it was told. Beside the jobs it says the p50 and p99 of the status calls, the memory of server and worker over
time, and the time of the same jobs in one process without a server.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx

SMALL = {"prompt": "a red star moves left", "height": 32, "width": 32, "num_frames": 1, "num_inference_steps": 2}
POLL = 0.2  # seconds


class Soak:
    """The clients' common counts."""

    def __init__(self, url: str, jobs: int):
        self.url, self.jobs = url, jobs
        self.lock = threading.Lock()
        self.next = 0
        self.ended: Counter[str] = Counter()
        self.ids: list[str] = []
        self.seeds: list[int] = []
        self.status_seconds: list[float] = []
        self.refused = 0

    def client(self) -> None:
        """One client, until all jobs are taken."""
        with httpx.Client(base_url=self.url, timeout=600) as http:
            while (seed := self.take()) is not None:
                self.job(http, seed)

    def take(self) -> int | None:
        with self.lock:
            if self.next == self.jobs:
                return None
            self.next += 1
            return self.next

    def job(self, http: httpx.Client, seed: int) -> None:
        while (answer := http.post("/v1/videos", json={**SMALL, "seed": seed})).status_code == 429:
            with self.lock:
                self.refused += 1
            time.sleep(float(answer.headers["retry-after"]))
        id, times = answer.raise_for_status().json()["id"], []
        while True:
            began = time.perf_counter()
            video = http.get(f"/v1/videos/{id}").raise_for_status().json()
            times.append(time.perf_counter() - began)
            if video["status"] not in ("queued", "in_progress"):
                break
            time.sleep(POLL)
        content = http.get(f"/v1/videos/{id}/content")
        with self.lock:
            self.ended[video["status"] if content.content[4:8] == b"ftyp" else "without content"] += 1
            self.ids.append(id)
            self.seeds.append(video["seed"])
            self.status_seconds += times


def memory(pid: int) -> float:
    """Resident MB of a process."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1e3 if found else 0.0


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


def alone(model: str, jobs: int) -> float:
    """Seconds a job of the same jobs, with their mp4 files, in this process."""
    from hunyuan_video import HunyuanVideoPipeline
    from hunyuan_video.sampling import save_video

    pipe = HunyuanVideoPipeline.from_pretrained(model, device="cpu")
    arguments: dict[str, Any] = {**SMALL}
    pipe(**arguments, seed=0)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(jobs):
            save_video(Path(folder) / f"{seed}.mp4", pipe(**arguments, seed=seed).frames[0], fps=pipe.defaults.fps)
    return (time.perf_counter() - began) / jobs


def started(model: str, folder: str) -> tuple[subprocess.Popen, str]:
    """A server whose models are loaded, and its address."""
    command = [sys.executable, "-m", "hunyuan_video", "serve", "--port", "0", "--data", folder, "--model", model]
    process = subprocess.Popen([*command, "--device", "cpu", "--max-queue", "40"], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    url = re.search(r"at (http://\S+) ", process.stderr.readline())[1]  # type: ignore[index]
    threading.Thread(target=lambda: [sys.stderr.write(line) for line in process.stderr or ()], daemon=True).start()
    while httpx.get(f"{url}/health").status_code != 200:
        time.sleep(0.2)
    return process, url


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--alone", type=int, default=50, help="jobs without a server, for comparison")
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        process, url = started(args.model, folder)
        soak = Soak(url, args.jobs)
        clients = [threading.Thread(target=soak.client) for _ in range(args.clients)]
        began = time.perf_counter()
        for client in clients:
            client.start()
        memories: dict[int, tuple[float, float]] = {}
        while any(client.is_alive() for client in clients):
            time.sleep(0.5)
            done = sum(soak.ended.values()) // 100 * 100
            if done not in memories:
                memories[done] = (memory(process.pid), sum(map(memory, children(process.pid))))
                print(done, memories[done], file=sys.stderr, flush=True)
        seconds = time.perf_counter() - began
        listed, after = [], ""
        while page := httpx.get(f"{url}/v1/videos?limit=100&{after}").json()["data"]:
            listed += [video["id"] for video in page]
            after = f"after={page[-1]['id']}"
        process.send_signal(signal.SIGTERM)
        code = process.wait()
    report = {
        "machine": platform.processor() or platform.machine(),
        "load": os.getloadavg(),
        "jobs": args.jobs,
        "clients": args.clients,
        "ended": dict(soak.ended),
        "lost": args.jobs - len(set(soak.ids) & set(listed)),
        "doubled": len(listed) - len(set(soak.ids)) + len(soak.seeds) - len(set(soak.seeds)),
        "refused and tried again": soak.refused,
        "seconds": round(seconds, 1),
        "status calls": len(soak.status_seconds),
        "status ms p50": round(1e3 * percentile(soak.status_seconds, 0.5), 1),
        "status ms p99": round(1e3 * percentile(soak.status_seconds, 0.99), 1),
        "MB of server and of worker after so many jobs": {str(done): [*memories[done]] for done in memories},
        "seconds a job": round(seconds / args.jobs, 4),
        "seconds a job without a server": round(alone(args.model, args.alone), 4),
        "exit code": code,
    }
    text = json.dumps(report, indent=1)
    print(text)
    if args.output:
        args.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
