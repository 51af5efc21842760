"""The nodes in a real ComfyUI on the CPU: our example workflow is posted to it, and gives what the command line gives.

COMFYUI=FOLDER: ComfyUI's source; COMFYUI_PYTHON: a Python that has its requirements (default: this one). Ran with
0.3.64. It is on no package index: without a folder this is skipped.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from hunyuan_video.cli import main

ROOT = Path(__file__).resolve().parents[2]
COMFYUI = os.environ.get("COMFYUI", "")
pytestmark = pytest.mark.skipif(not COMFYUI, reason="set COMFYUI to a folder with ComfyUI's source (it is on no index)")
WORKFLOW = ROOT / "python/hunyuan_video/integrations/comfyui/pack/example_workflows/text_to_video.json"


class ComfyServer:
    """A headless ComfyUI with its folders in a place of its own."""

    def __init__(self, folder: Path):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{free.getsockname()[1]}"
        nodes = folder / "custom_nodes"
        nodes.mkdir(parents=True)
        assert main(["comfyui", "install", str(nodes)]) == 0
        command = [
            os.environ.get("COMFYUI_PYTHON", sys.executable),
            str(ROOT / "tests/helpers/comfyui_start.py"),
            COMFYUI,
        ]
        command += ["--cpu", "--listen", "127.0.0.1", "--port", self.url.rpartition(":")[2], "--disable-auto-launch"]
        command += ["--disable-api-nodes", "--base-directory", str(folder)]
        path = os.pathsep.join([str(ROOT / "python"), str(ROOT)])
        self.log = (folder / "server.log").open("w+")
        self.process = subprocess.Popen(
            command, stdout=self.log, stderr=subprocess.STDOUT, env={**os.environ, "PYTHONPATH": path}
        )

    def get(self, path: str):
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return answer.read()

    def wait(self, seconds: float = 300) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            try:
                self.get("/system_stats")
                return
            except OSError:
                time.sleep(0.5)
        self.log.seek(0)
        raise AssertionError(f"ComfyUI does not answer: {self.log.read()[-2000:]}")

    def post(self, workflow: dict) -> str:
        body = json.dumps({"prompt": workflow}).encode()
        request = urllib.request.Request(self.url + "/prompt", body, {"content-type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                reply = json.load(answer)
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from error
        assert reply["node_errors"] == {}
        return reply["prompt_id"]

    def result(self, workflow: dict, seconds: float = 300) -> dict:
        """The history entry of a workflow that has run."""
        prompt, end = self.post(workflow), time.monotonic() + seconds
        while time.monotonic() < end:
            if history := json.loads(self.get(f"/history/{prompt}")):
                return history[prompt]
            time.sleep(0.2)
        raise AssertionError("the workflow did not end")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    running = ComfyServer(tmp_path_factory.mktemp("comfyui"))
    try:
        running.wait()
        yield running
    finally:
        running.process.terminate()
        running.process.wait(30)
        running.log.close()


def frames_of(server: ComfyServer, outputs: list[dict]) -> np.ndarray:  # uint8 [F, H, W, 3]
    from io import BytesIO

    from PIL import Image

    pictures = [Image.open(BytesIO(server.get(f"/view?{urllib.parse.urlencode(entry)}"))) for entry in outputs]
    return np.stack([np.asarray(picture.convert("RGB")) for picture in pictures])


def saving_frames(workflow: dict) -> dict:
    """The workflow with its frames as pictures without loss."""
    workflow["7"] = {"class_type": "SaveImage", "inputs": {"images": ["5", 0], "filename_prefix": "frames"}}
    return workflow


def test_example_workflow_gives_what_the_command_line_gives(server, tmp_path):
    workflow = saving_frames(json.loads(WORKFLOW.read_text()))
    entry = server.result(workflow)
    assert entry["status"]["status_str"] == "success", entry["status"]
    assert "fits" in entry["outputs"]["6"]["text"][0]
    frames = frames_of(server, entry["outputs"]["7"]["images"])
    prompt, folder = workflow["2"]["inputs"]["text"], tmp_path / "frames"
    arguments = ["--seed", "1", "--height", "64", "--width", "64", "--num-frames", "17", "-o", f"{folder}/"]
    assert main(["sample", prompt, *arguments]) == 0
    from PIL import Image

    wanted = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in sorted(folder.glob("*.png"))])
    assert frames.shape == wanted.shape == (17, 64, 64, 3)
    difference = np.abs(frames.astype(int) - wanted.astype(int))
    assert difference.max() <= 1  # ComfyUI cuts off what we round


def test_own_decoder_of_comfyui_takes_our_vae(server):
    workflow = saving_frames(json.loads(WORKFLOW.read_text()))
    exact = frames_of(server, server.result(workflow)["outputs"]["7"]["images"])
    workflow["5"] = {"class_type": "VAEDecode", "inputs": {"samples": ["4", 0], "vae": ["1", 1]}}
    workflow["7"]["inputs"]["filename_prefix"] = "theirs"
    frames = frames_of(server, server.result(workflow)["outputs"]["7"]["images"])
    assert np.abs(frames.astype(int) - exact.astype(int)).max() <= 1


def test_wrong_sizes_end_in_one_line(server):
    workflow = json.loads(WORKFLOW.read_text())
    workflow["3"] = {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}}
    del workflow["6"]
    entry = server.result(workflow)
    assert entry["status"]["status_str"] == "error"
    text = [message for kind, message in entry["status"]["messages"] if kind == "execution_error"][0]
    assert "EmptyHunyuanLatentVideo" in text["exception_message"]


def test_interruption_ends_a_run(server):
    workflow = saving_frames(json.loads(WORKFLOW.read_text()))
    workflow["4"]["inputs"] |= {"steps": 1000, "seed": 5}
    prompt = server.post(workflow)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not json.loads(server.get(f"/history/{prompt}")):
        urllib.request.urlopen(
            urllib.request.Request(f"{server.url}/interrupt", b"{}", method="POST"), timeout=30
        ).close()
        time.sleep(1)
    status = json.loads(server.get(f"/history/{prompt}"))[prompt]["status"]
    assert "execution_interrupted" in [kind for kind, _ in status["messages"]]
