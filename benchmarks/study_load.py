"""Raters at once on a study's page: how long a page and a vote take, and what a kill leaves of the votes.

    python -m benchmarks.study_load [--raters 60] [--think 2] [-o FILE]
    python -m benchmarks.study_load --kill 5 [--raters 200]

The server is `hunyuan-video eval study serve` in a process of its own; all raters are connections of one asyncio
process. Without --kill each opens its link, loads the page with its parts, its task and both videos, thinks, votes, and
loads the next pair, to the end. With --kill all vote without thinking until the server is killed (SIGKILL) in the
middle, so many times; after each, every vote that was answered with 200 is looked for in the store.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hunyuan_video.evaluation.generation import System, generate
from hunyuan_video.evaluation.study.votes import QUESTIONS
from hunyuan_video.evaluation.suites import Item, Suite
from hunyuan_video.files import write_json
from hunyuan_video.media.write import save_video
from hunyuan_video.serving.study.server import LINKS_FILE
from hunyuan_video.serving.study.store import STORE_FILE

ANSWER = dict.fromkeys(QUESTIONS, "left")


def made_study(folder: Path, prompts: int) -> Path:
    """A study of two systems with clips of the bundled model's size, noise of 8 x 8 squares."""
    rng = np.random.default_rng(0)
    items = [Item(f"p{i:04d}", f"prompt {i}", i) for i in range(prompts)]
    systems = []
    for name in ("one", "other"):
        made = folder / name
        made.mkdir(parents=True)
        for item in items:
            coarse = rng.integers(0, 256, (17, 8, 8, 3), dtype=np.uint8)
            save_video(made / f"{item.id}.mp4", coarse.repeat(8, 1).repeat(8, 2), 8)
        systems.append(System(name, folder=str(made)))
    generate(folder / "study", Suite("load", tuple(items)), systems)
    return folder / "study"


class Server:
    """The study's server; its address, and the raters' links at its first start."""

    def __init__(self, study: Path, *options: str):
        command = [sys.executable, "-m", "hunyuan_video", "eval", "study", "serve", str(study), "--port", "0", *options]
        path = os.pathsep.join(path for path in ["", *sys.path] if path)
        environment = {**os.environ, "PYTHONPATH": path}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if found := re.search(r"is at http://([^:/]+):(\d+)", line):
                self.host, self.port = found[1], int(found[2])
                break
        else:
            raise SystemExit("the server did not start")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@dataclass
class Rater:
    """A keep-alive connection with a cookie."""

    link: str
    cookie: str = ""
    reader: Any = None
    writer: Any = None
    times: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    async def connect(self, server: Server) -> None:
        while True:
            try:
                self.reader, self.writer = await asyncio.open_connection(server.host, server.port)
                return
            except ConnectionError:  # the socket listens before the server does
                await asyncio.sleep(0.02)

    async def ask(self, kind: str, path: str, vote: dict[str, Any] | None = None) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body; the time is kept under `kind`."""
        body = b"" if vote is None else json.dumps(vote).encode()
        head = f"{'GET' if vote is None else 'POST'} {path} HTTP/1.1\r\nhost: study\r\ncookie: {self.cookie}\r\n"
        head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n" if body else "\r\n"
        began = time.perf_counter()
        self.writer.write(head.encode() + body)
        first, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        content = await self.reader.readexactly(int(headers.get("content-length", "0")))
        self.times[kind].append(time.perf_counter() - began)
        return int(first.split()[1]), headers, content

    async def enter(self) -> None:
        _, headers, _ = await self.ask("link", self.link)
        self.cookie = headers["set-cookie"].partition(";")[0]

    async def task(self) -> dict[str, Any]:
        status, _, content = await self.ask("task", "/api/task")
        assert status == 200, content
        return json.loads(content)

    async def pair(self) -> dict[str, Any]:
        """The next task with both videos, as the page loads them."""
        task = await self.task()
        for side in ("left", "right") if "task" in task else ():
            status, _, content = await self.ask("video", f"/clips/{task[side]}")
            assert status == 200 and content[4:8] == b"ftyp"
        return task

    async def vote(self, task: str) -> bool:
        status, _, content = await self.ask("vote", "/api/votes", {"task": task, **ANSWER, "seconds": 1.0})
        return status == 200 and json.loads(content)["stored"]


def links_of(study: Path) -> list[str]:
    lines = (study / LINKS_FILE).read_text().splitlines()
    return [re.sub(r"^\S+ https?://[^/]+", "", line) for line in lines]


async def visit(rater: Rater, server: Server, think: float, rng: random.Random) -> None:
    """A rater from the link to the last vote."""
    await asyncio.sleep(rng.random() * think)
    await rater.connect(server)
    await rater.enter()
    began = time.perf_counter()
    for path in ("/", "/page/study.css", "/page/study.js"):
        status, _, _ = await rater.ask("page" if path == "/" else "part", path)
        assert status == 200, path
    task = await rater.pair()
    rater.times["page with its parts, task and videos"].append(time.perf_counter() - began)
    while "task" in task:
        await asyncio.sleep(think * (0.5 + rng.random()))
        began = time.perf_counter()
        assert await rater.vote(task["task"])
        task = await rater.pair()
        rater.times["vote, next task and videos"].append(time.perf_counter() - began)
    rater.writer.close()


async def load(server: Server, raters: list[Rater], think: float) -> dict[str, Any]:
    """Milliseconds of every kind of request, with their number."""
    rngs = [random.Random(i) for i in range(len(raters))]
    await asyncio.gather(*(visit(rater, server, think, rng) for rater, rng in zip(raters, rngs, strict=True)))
    kinds = {kind: sorted(t for rater in raters for t in rater.times[kind]) for kind in raters[0].times}
    return {
        kind: {
            "count": len(t),
            **{f"p{p}": round(1e3 * t[min(int(p / 100 * len(t)), len(t) - 1)], 2) for p in (50, 95, 99)},
        }
        for kind, t in kinds.items()
    }


async def killed(server: Server, raters: list[Rater], after: int) -> set[str]:
    """Tasks whose vote was answered before the server was killed, which is when so many were."""
    answered: set[str] = set()

    async def voting(rater: Rater) -> None:
        try:
            await rater.connect(server)
            if not rater.cookie:
                await rater.enter()
            while "task" in (task := await rater.task()):
                if await rater.vote(task["task"]):
                    answered.add(task["task"])
                if len(answered) >= after:
                    server.process.kill()
        except (OSError, asyncio.IncompleteReadError):
            return

    await asyncio.gather(*map(voting, raters))
    server.kill()
    return answered


def stored(study: Path) -> set[str]:
    """Tasks with a vote in the store."""
    connection = sqlite3.connect(study / STORE_FILE)
    try:
        return {task for (task,) in connection.execute("SELECT task FROM votes")}
    finally:
        connection.close()


def kills(study: Path, count: int, times: int, prompts: int) -> list[dict[str, int]]:
    """For each kill: votes answered, votes of it that are missing afterwards, votes stored but not answered."""
    options = ("--raters", str(count), "--votes", str(min(12, count)), "--checks", "2")
    raters: list[Rater] = []
    answered: set[str] = set()
    rows = []
    for _ in range(times):
        server = Server(study, *options)
        raters = raters or [Rater(link) for link in links_of(study)]
        new = asyncio.run(killed(server, raters, prompts * min(12, count) // (2 * times)))
        before, answered = len(answered), answered | new
        there = stored(study)
        rows.append(
            {"answered": len(answered) - before, "missing": len(answered - there), "extra": len(there - answered)}
        )
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raters", type=int, help="default: 60, with --kill 200")
    parser.add_argument("--prompts", type=int, default=200, help="pairs of videos (default: 200)")
    parser.add_argument("--think", type=float, default=2.0, help="mean seconds before a vote (default: 2)")
    parser.add_argument("--kill", type=int, default=0, metavar="TIMES", help="kill the server so many times")
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()
    count = args.raters or (200 if args.kill else 60)
    report: dict[str, Any] = {"raters": count, "cores": os.cpu_count(), "load before": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as folder:
        study = made_study(Path(folder), args.prompts)
        if args.kill:
            report["kills"] = kills(study, count, args.kill, args.prompts)
        else:
            server = Server(study, "--raters", str(count), "--votes", "3", "--checks", "2")
            try:
                raters = [Rater(link) for link in links_of(study)]
                report |= {"think": args.think, "milliseconds": asyncio.run(load(server, raters, args.think))}
            finally:
                server.kill()
    print(json.dumps(report, indent=1))
    if args.output:
        write_json(args.output, report)


if __name__ == "__main__":
    main()
