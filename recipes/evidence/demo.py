"""Two variants of the bundled model over 100 prompts, from the prompts to the report, with raters in a browser.

    python recipes/evidence/demo.py -o outputs/demo-study --results recipes/evidence/results

The 4-step student against four plain Euler steps of its teacher: videos of both (`eval generate`), prompt following in
pairs (`eval compare`), then a study: `eval study serve`, whose page simulated raters use in headless Chromium, by keys
as people do, and `eval study analyse` with its picture. Needs playwright and a Chromium ($CHROMIUM or on the path).

A rater looks at what the page shows: it fetches the two videos from the addresses in the page and asks the toyworld's
judge which attributes of the shown prompt it sees. Text: all of them; motion: motion, direction, camera; visual: shape
and color. Each rater adds noise of its own; differences below a threshold are "same". The first answers at random: its
checks should exclude it. Such raters test the path of a vote, not the models: they know what the judge knows.

Every step goes on where it was killed.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from hunyuan_video.data.toyworld import WORLDS
from hunyuan_video.evaluation.clips import Clip
from hunyuan_video.evaluation.side_by_side import followed

ASKED = {"text": None, "motion": ("motion", "direction", "camera"), "visual": ("shape", "color"), "overall": None}
KEYS = {"left": "ArrowLeft", "same": "ArrowDown", "right": "ArrowRight"}
NOISE, SAME = 0.15, 0.1  # of differences between shares of attributes
WORLD = "narrow"
SYSTEMS = {
    "euler4": ("tiny:none", ("--num-inference-steps", "4", "--true-cfg-scale", "1", "--flow-shift", "1")),
    "student": ("tiny", ()),
}


def command(*words: str) -> None:
    """A step, in a process of its own as a user would start it."""
    print("hunyuan-video", *words, flush=True)
    subprocess.run([sys.executable, "-m", "hunyuan_video", *words], check=True, env=environment())


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


class Rater:
    """A rater's answers: the judge's difference under noise of its own, or chance alone."""

    def __init__(self, number: int, careless: bool):
        self.rng = np.random.default_rng(number)
        self.careless = careless
        self.noise = NOISE * np.exp(0.3 * self.rng.normal())

    def answers(self, prompt: str, videos: tuple[bytes, bytes]) -> dict[str, str]:
        """Question -> left, same or right."""
        if self.careless:
            return {name: str(self.rng.choice(("left", "same", "right"))) for name in ASKED}
        left, right = (seen(prompt, video) for video in videos)
        found = {}
        for name, columns in ASKED.items():
            names = [column for column in left if column != "all" and (columns is None or column in columns)]
            gap = float(np.mean([left[column] - right[column] for column in names])) if names else 0.0
            gap += self.noise * self.rng.normal()
            found[name] = "same" if abs(gap) < SAME else "left" if gap > 0 else "right"
        return found


def seen(prompt: str, video: bytes) -> dict[str, float]:
    """Attribute of the prompt -> 1 where the video shows it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "shown.mp4"
        file.write_bytes(video)
        frames = torch.from_numpy(Clip("shown", file).frames())
    return {name: float(right) for name, right in followed(frames, prompt, WORLDS[WORLD]).items()}


def use_page(url: str, link: str, rater: Rater, sheet: Path | None) -> int:
    """A rater from the link to "That was all", by keys; the number of votes."""
    from playwright.sync_api import expect, sync_playwright

    browser_file = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as program:
        browser = program.chromium.launch(executable_path=browser_file)
        page = browser.new_context(viewport={"width": 900, "height": 760}).new_page()
        page.set_default_timeout(60_000)
        page.goto(link)
        votes = 0
        while True:
            expect(page.locator("#count")).to_contain_text("of")
            done, total = map(int, re.findall(r"\d+", page.locator("#count").text_content() or ""))
            if done == total:
                break
            page.locator("fieldset.now").wait_for()
            prompt = page.locator("h1").text_content() or ""
            sources = [page.locator(f"#{side}").get_attribute("src") for side in ("left", "right")]
            left, right = (page.request.get(f"{url}{source}").body() for source in sources)
            if sheet is not None and votes == 1:
                page.screenshot(path=sheet)
            for answer in rater.answers(prompt, (left, right)).values():
                page.keyboard.press(KEYS[answer])
            page.keyboard.press("Enter")
            expect(page.locator("#count")).to_contain_text(f"{done + 1} of")
            votes += 1
        browser.close()
    return votes


def vote(study: Path, raters: int) -> None:
    """Serves the study and lets the raters vote, one after another; those who are through are left out."""
    words = [sys.executable, "-m", "hunyuan_video", "eval", "study", "serve", str(study), "--port", "0"]
    words += ["--raters", str(raters), "--votes", "3"]
    if (study / "study.sqlite").exists():
        words += [word for i in range(raters) for word in ("--invite", f"rater-{i + 1:02d}")]
    server = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment())
    assert server.stderr is not None
    try:
        found = next(filter(None, (re.search(r"is at (http://\S+)", line) for line in server.stderr)))
        links = dict(line.split(" ") for line in (study / "invitations.txt").read_text().splitlines())
        for number in range(raters):
            name = f"rater-{number + 1:02d}"
            sheet = study / "page.png" if number == 1 else None
            print(f"{name}: {use_page(found[1], links[name], Rater(number, number == 0), sheet)} votes", flush=True)
    finally:
        server.terminate()
        server.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--raters", type=int, default=10)
    parser.add_argument("-o", "--output", type=Path, default=Path("outputs/demo-study"))
    parser.add_argument("--results", type=Path, help="a folder for compare.json, study.json and study.png")
    args = parser.parse_args()
    study, results = args.output, args.results or args.output
    for name, (model, options) in SYSTEMS.items():
        suite = f"toyworld:{WORLD}:{args.prompts}"
        command("eval", "generate", suite, "--model", f"{name}={model}", *options, "-o", str(study))
    folders = [str(study / name) for name in SYSTEMS]
    command("eval", "compare", *folders, "--planned", str(args.prompts), "-o", str(results / "demo_compare.json"))
    vote(study, args.raters)
    picture = ["--plot", str(results / "demo_study.png"), "-o", str(results / "demo_study.json")]
    command("eval", "study", "analyse", str(study), *picture)


if __name__ == "__main__":
    main()
