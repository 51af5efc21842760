"""A study over HTTP: invitations, blinding, votes that are never lost, and the page in a headless Chromium."""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from hunyuan_video.cli import main
from hunyuan_video.errors import UserError
from hunyuan_video.evaluation.study.votes import QUESTIONS, read_votes
from hunyuan_video.media import read_metadata, save_video

httpx = pytest.importorskip("httpx")
testclient = pytest.importorskip("fastapi.testclient")
pytest.importorskip("scipy")
from hunyuan_video.serving.server import bound_socket  # noqa: E402  (needs fastapi)
from hunyuan_video.serving.study.app import make_study_app  # noqa: E402
from hunyuan_video.serving.study.begin import begin_study  # noqa: E402
from hunyuan_video.serving.study.store import StudyStore  # noqa: E402

BROWSER = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
LEFT = dict.fromkeys(QUESTIONS, "left")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """A study of two systems with secret names, four prompts each."""
    root = tmp_path_factory.mktemp("made")
    (root / "suite.csv").write_text("id,prompt\n" + "".join(f"p{i},prompt <b>number</b> {i}\n" for i in range(4)))
    for number, name in enumerate(("secret-a", "secret-b")):
        (root / name).mkdir()
        for i in range(4):
            clip = np.full((5, 32, 32, 3), 60 + 90 * number, np.uint8)
            save_video(root / name / f"p{i}.mp4", clip, 8, metadata={"prompt": "x", "model": name})
    joins = [word for name in ("secret-a", "secret-b") for word in ("--join", f"{name}={root / name}")]
    assert main(["eval", "generate", str(root / "suite.csv"), *joins, "-o", str(root / "study")]) == 0
    return root / "study"


class Served:
    """`hunyuan-video eval study serve` in a process of its own."""

    def __init__(self, study, *options):
        command = [sys.executable, "-m", "hunyuan_video", "eval", "study", "serve", str(study), "--port", "0", *options]
        path = os.pathsep.join(path for path in sys.path if path)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        lines = []
        for line in self.process.stderr:
            lines.append(line)
            if found := re.search(r"is at (http://\S+)", line):
                self.url = found[1]
                break
        else:
            raise AssertionError("".join(lines))
        links = (study / "invitations.txt").read_text().split("\n")
        self.links = dict(line.split(" ") for line in links if line)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                httpx.get(self.url, timeout=5)
                break
            except httpx.TransportError:
                time.sleep(0.02)

    def rater(self, name):
        """A client that has opened a rater's link."""
        client = httpx.Client(base_url=self.url, timeout=60, follow_redirects=True)
        link = re.sub(r"^http://[^/]+", "", self.links[name])
        assert client.get(link).status_code == 200
        return client

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0


class Inside:
    """The application in this process, as `Served`."""

    url = "http://testserver"

    def __init__(self, study):
        self.store = StudyStore(study)
        begin_study(study, self.store, raters=3, votes=2, checks=2)
        self.app = make_study_app(study, self.store)
        self.links = {}

    def client(self):
        return testclient.TestClient(self.app)

    def rater(self, name):
        self.links[name] = f"{self.url}/i/{self.store.invite(name, 1)}"
        client = self.client()
        assert client.get(self.links[name].removeprefix(self.url)).status_code == 200
        return client


@pytest.fixture
def study(videos, tmp_path):
    return shutil.copytree(videos, tmp_path / "study")


@pytest.fixture(scope="module")
def inside(videos, tmp_path_factory):
    app = Inside(shutil.copytree(videos, tmp_path_factory.mktemp("inside") / "study"))
    yield app
    app.store.close()


@pytest.fixture(scope="module")
def process(videos, tmp_path_factory):
    """(server, its study): in a process, for the page and then for the kill."""
    study = shutil.copytree(videos, tmp_path_factory.mktemp("process") / "study")
    server = Served(study, "--raters", "4", "--votes", "2", "--checks", "2")
    yield server, study
    server.kill()


def test_links_work_once_and_nothing_names_a_system(inside):
    one, other = inside.rater("rater-01"), inside.rater("rater-02")
    link = inside.links["rater-01"].removeprefix(inside.url)
    assert inside.client().get(link).status_code == 410  # another browser
    assert one.get(link).status_code == 200  # the same one comes back
    assert inside.client().get("/i/unknown").status_code == 410
    for path in ("/", "/api/task"):
        assert inside.client().get(path).status_code == 401
    task = one.get("/api/task").json()
    assert set(task) == {"task", "prompt", "left", "right", "done", "total"} and task["done"] == 0
    assert re.fullmatch(r"prompt <b>number</b> \d", task["prompt"])
    clip = one.get(f"/clips/{task['left']}")
    assert clip.status_code == 200 and "secret" not in str(clip.headers) and b"secret" not in clip.content
    assert one.get(f"/clips/{task['left']}", headers={"range": "bytes=0-9"}).status_code == 206
    assert not read_metadata(inside.store.path.parent / "blind" / f"{task['left']}.mp4").get("model")
    assert other.get("/clips/..%2Fsuite").status_code == 404 and one.get("/page/..%2Fstore.py").status_code == 404
    token = link.split("/")[-1].encode()
    assert token not in b"".join(file.read_bytes() for file in inside.store.path.parent.glob("study.sqlite*"))
    assert inside.store.enter(inside.store.invite("rater-03", days=-1)) is None  # expired


def test_votes_are_stored_once_and_checked(inside):
    one, other = inside.rater("rater-01"), inside.rater("rater-02")
    task = one.get("/api/task").json()["task"]
    vote = {"task": task, **LEFT, "seconds": 3.5}
    assert other.post("/api/votes", json=vote).status_code == 404  # not theirs
    for wrong, status in (
        ({**vote, "motion": "best"}, 400),
        ({**vote, "seconds": -1}, 400),
        ({**LEFT}, 400),
        ([1], 400),
        ({**vote, "comment": "x" * 5000}, 413),
    ):
        assert one.post("/api/votes", json=wrong).status_code == status
    assert one.post("/api/votes", content=json.dumps(vote)).status_code == 415
    assert one.post("/api/votes", json=vote).json() == {"stored": True, "new": True}
    assert one.post("/api/votes", json=vote).json() == {"stored": True, "new": False}  # sent twice
    assert one.post("/api/votes", json={**vote, "text": "same"}).status_code == 409
    assert one.get("/api/task").json()["done"] == 1 and one.get("/api/task").json()["task"] != task


def test_a_locked_store_is_told_and_the_same_vote_counts_later(inside):
    one = inside.rater("rater-02")
    vote = {"task": one.get("/api/task").json()["task"], **LEFT, "seconds": 1.0}
    other = sqlite3.connect(inside.store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    answer = one.post("/api/votes", json=vote)
    assert answer.status_code == 503 and "nothing was stored, try again" in answer.json()["error"]
    other.execute("ROLLBACK")
    other.close()
    assert one.post("/api/votes", json=vote).json() == {"stored": True, "new": True}


def test_a_full_disk_is_told_and_the_same_vote_counts_later(inside):
    """A store that may not grow by a page, and whose last page has no room, is SQLite's full disk."""
    one = inside.rater("rater-03")
    vote = {"task": one.get("/api/task").json()["task"], **LEFT, "seconds": 1.0}
    other = sqlite3.connect(inside.store.path, isolation_level=None)  # which has no foreign keys
    values = ("x" * 4000, *["left"] * (len(QUESTIONS) - 1), 0.0, 0.0)
    other.execute(f"INSERT INTO votes VALUES (NULL, 'filler', {', '.join('?' * len(values))})", values)
    limited = inside.store._connection.execute
    pages = limited("PRAGMA page_count").fetchone()[0]
    limited(f"PRAGMA max_page_count={pages}")
    answer = one.post("/api/votes", json=vote)
    assert answer.status_code == 503 and "full" in answer.json()["error"] and "try again" in answer.json()["error"]
    assert one.get("/api/task").json()["task"] == vote["task"]
    limited(f"PRAGMA max_page_count={2**30}")
    other.execute("DELETE FROM votes WHERE task = 'filler'")
    other.close()
    assert one.post("/api/votes", json=vote).json() == {"stored": True, "new": True}


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_answers_do_not_wait_for_acknowledgements(host):
    """Headers and body leave as two packets; without TCP_NODELAY the second waits 40 ms on a kept connection."""
    try:
        listener = bound_socket(host, 0)
    except UserError:
        pytest.skip("no IPv6 here")

    async def accepted():
        found = asyncio.get_running_loop().create_future()

        def answer(reader, writer):
            found.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        async with await asyncio.start_server(answer, sock=listener):
            _, writer = await asyncio.open_connection(*listener.getsockname()[:2])
            try:
                return await asyncio.wait_for(found, 60)
            finally:
                writer.close()

    assert asyncio.run(accepted()) == 1


def test_studies_that_cannot_begin_are_refused(videos, study, tmp_path, capsys):
    (study / "secret-b" / "p2.mp4").unlink()
    words = ["eval", "study", "serve", "--port", "0", "--raters", "3"]
    assert main([*words, str(study)]) == 1 and "no video of prompt p2" in capsys.readouterr().err
    assert not (study / "invitations.txt").exists()
    assert main(["eval", "study", "analyse", str(study)]) == 1 and "cannot read the votes" in capsys.readouterr().err
    assert main([*words, str(tmp_path / "none")]) == 1 and "no such folder" in capsys.readouterr().err
    assert main([*words, str(study), "--votes", "4"]) == 2 and "invite more" in capsys.readouterr().err


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on the path; $CHROMIUM may name one")
def test_the_page_by_keys_on_a_phone_and_after_a_closed_tab(process):
    served, study = process
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as program:
        browser = program.chromium.launch(executable_path=BROWSER)
        context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True)
        page = context.new_page()
        page.set_default_timeout(60_000)
        wrong = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(served.links["rater-01"])
        assert page.url == served.url + "/"  # the token has left the address
        count = page.locator("#count")
        playwright.expect(count).to_contain_text("0 of")
        assert page.locator("h1").text_content().startswith("prompt <b>")
        page.locator("fieldset.now").wait_for()
        for key in ("ArrowLeft", "ArrowDown", "Backspace", "ArrowRight", "ArrowDown", "ArrowLeft", "Enter"):
            page.keyboard.press(key)
        playwright.expect(count).to_contain_text("1 of")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        if folder := os.environ.get("SCREENSHOTS"):
            page.locator("fieldset.now").wait_for()
            page.screenshot(path=f"{folder}/study.png", full_page=True)
        page.close()
        page = context.new_page()
        page.goto(served.url)
        playwright.expect(page.locator("#count")).to_contain_text("1 of")
        page.locator("fieldset.now").wait_for()
        for field in page.locator("fieldset").all():
            field.get_by_text("same").tap()
        page.get_by_role("button", name="Send").tap()
        playwright.expect(page.locator("#count")).to_contain_text("2 of")
        browser.close()
    assert wrong == []
    assert main(["eval", "study", "analyse", str(study), "-o", str(study / "r.json")]) in (0, 1)  # 1: only checks yet
    text = (study / "votes.csv").read_text()
    assert ",left,right,same,left," in text and ",same,same,same,same," in text


def test_a_kill_loses_no_answered_vote_and_the_study_goes_on(process, capsys):
    served, study = process
    assert (study / "invitations.txt").stat().st_mode & 0o777 == 0o600
    acknowledged, stop = [], threading.Event()

    def votes_of(client):
        while not stop.is_set():
            try:
                task = client.get("/api/task").json()
                if "task" not in task:
                    return
                answer = client.post("/api/votes", json={"task": task["task"], **LEFT})
                if answer.status_code == 200:
                    acknowledged.append(task["task"])
            except httpx.TransportError:
                return

    clients = [served.rater(f"rater-0{i}") for i in (2, 3, 4)]
    threads = [threading.Thread(target=votes_of, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    while len(acknowledged) < 6:
        time.sleep(0.001)
    served.kill()
    stop.set()
    for thread in threads:
        thread.join()
    again = Served(study, "--invite", "rater-02")
    try:
        assert list(again.links) == ["rater-02"]
        client = again.rater("rater-02")
        while "task" in (task := client.get("/api/task").json()):
            assert task["task"] not in acknowledged
            assert client.post("/api/votes", json={"task": task["task"], **LEFT}).status_code == 200
            acknowledged.append(task["task"])
        refused = main(["eval", "study", "serve", str(study), "--port", "0"])
        assert refused == 1 and "serves here" in capsys.readouterr().err
        assert main(["eval", "study", "analyse", str(study), "--json", "--least-checks", "99"]) == 0
    finally:
        again.stop()
    votes, checks = read_votes(study / "votes.csv")
    assert len(votes) + sum(checks.given.values()) >= len(acknowledged)
    assert set(votes.systems) == {"secret-a", "secret-b"} and checks.given["rater-02"] == 2
