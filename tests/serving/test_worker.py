"""A worker's jobs in this process: LoRAs, pictures, failures, and what it answers to its server."""

from __future__ import annotations

import dataclasses
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from hunyuan_video import HunyuanVideoPipeline
from hunyuan_video.checkpoints.lora import save_adapter
from hunyuan_video.media import read_metadata
from hunyuan_video.models.lora import add_adapter, lora_layers, remove_adapters, target_linears
from hunyuan_video.sampling import save_video
from hunyuan_video.serving.store import SHEET, THUMBNAIL, VIDEO
from hunyuan_video.serving.worker import Worker

PROMPT = "a red star moves left"


class Answers:
    """Messages that a worker sends; `end(id)` waits for the last answer of a job."""

    def __init__(self):
        self.sent, self.changed = [], threading.Condition()

    def send(self, **message):
        with self.changed:
            self.sent.append(message)
            self.changed.notify_all()

    def end(self, id):
        def last():
            return next((m for m in self.sent if id in (m.get("done"), m.get("failed"), m.get("stopped"))), None)

        with self.changed:
            assert self.changed.wait_for(last, 60)
            return last()


@pytest.fixture
def worker(checkpoint):
    pipe = HunyuanVideoPipeline.from_pretrained(checkpoint, device="cpu")
    worker = Worker(pipe, Answers(), "micro", None, active=2)
    yield worker
    worker.drain()


@pytest.fixture
def job(tmp_path):
    """`job(id, ...)`: a job's message, its folder made."""

    def make(id, loras=(), image=None, **arguments):
        folder = tmp_path / id
        folder.mkdir(exist_ok=True)
        if image is not None:
            image.save(folder / "image.png")
        run = {"id": id, "folder": str(folder), "prompt": PROMPT, "loras": list(loras), "image": image is not None}
        return {**run, "arguments": {"seed": 1, **arguments}}

    return make


def mp4(folder) -> bytes:
    return (folder / "video.mp4").read_bytes()


def test_loras_are_used_by_their_job_and_gone_after_it(worker, job, tmp_path):
    style, model = tmp_path / "style.safetensors", worker.pipe.transformer
    add_adapter(model, "style", dict.fromkeys(target_linears(model), 2))
    for _, layer in lora_layers(model):
        torch.nn.init.normal_(layer.adapter("style").lora_B, std=0.3)
    save_adapter(model, "style", style, dtype=torch.float32)
    remove_adapters(model)
    for id, loras in (("plain", []), ("styled", [[str(style), 0.5]]), ("again", [])):
        worker.run(job(id, loras))
        size = worker.answers.end(id)["bytes"]
        assert size == sum((tmp_path / id / name).stat().st_size for name in (VIDEO, THUMBNAIL, SHEET))
    assert mp4(tmp_path / "plain") == mp4(tmp_path / "again") != mp4(tmp_path / "styled")
    worker.pipe.load_lora_weights(style, weight=0.5)
    frames = worker.pipe(PROMPT, seed=1).frames[0]
    record = read_metadata(tmp_path / "styled" / "video.mp4")
    assert "--adapter style.safetensors:0.5" in record["command"] and str(tmp_path) not in str(record)
    save_video(tmp_path / "b.mp4", frames, fps=8, metadata=record)
    assert mp4(tmp_path / "styled") == (tmp_path / "b.mp4").read_bytes()


def test_a_missing_lora_fails_its_job_alone(worker, job, tmp_path):
    worker.run(job("bad", [[str(tmp_path / "none.safetensors"), 1.0]]))
    answer = worker.answers.end("bad")
    assert "no adapter file" in answer["message"] and not answer["internal"]
    worker.run(job("good"))
    assert "done" in worker.answers.end("good")


def test_a_picture_is_continued(worker, job, tmp_path):
    model = worker.pipe.transformer
    model.config = dataclasses.replace(model.config, image_condition="token_replace")
    pixels = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
    worker.run(job("pictured", image=Image.fromarray(pixels)))
    assert "done" in worker.answers.end("pictured")
    wanted = worker.pipe(PROMPT, image=pixels, seed=1).frames[0]
    record = read_metadata(tmp_path / "pictured" / "video.mp4")
    save_video(tmp_path / "b.mp4", wanted, fps=8, metadata=record)
    assert mp4(tmp_path / "pictured") == (tmp_path / "b.mp4").read_bytes() and "--image image.png" in record["command"]


def test_failures_say_whose_they_are(worker, job, tmp_path, monkeypatch):
    worker.run(job("wrong", height=33))
    answer = worker.answers.end("wrong")
    assert answer["argument"] and not answer["internal"] and "multiple of 16" in answer["message"]
    monkeypatch.setattr("hunyuan_video.media.write.save_video", lambda *_, **__: 1 / 0)
    worker.run(job("bug"))
    answer = worker.answers.end("bug")
    assert answer["internal"] and "ZeroDivisionError" in answer["message"]
    monkeypatch.undo()
    worker.answers.sent.clear()
    worker.run(job("bug"))  # from its state, which is complete: only the files are made
    assert "done" in worker.answers.end("bug") and mp4(tmp_path / "bug")
    assert not any("step" in message for message in worker.answers.sent)


def test_steps_are_told_and_a_drained_worker_keeps_states(worker, job, tmp_path):
    worker.previews = True
    worker.run(job("long", num_inference_steps=500))
    with worker.answers.changed:
        assert worker.answers.changed.wait_for(lambda: any("step" in m for m in worker.answers.sent), 60)
    worker.drain()
    sent = worker.answers.sent
    assert sent[-1] == {"stopped": "long"} and (tmp_path / "long" / "state.safetensors").is_file()
    steps = [m for m in sent if "step" in m]
    assert steps[0]["number"] == 1 and steps[0]["total"] == 500 and steps[0]["preview"].startswith("data:image/webp")
    assert sent[0] == {"working": "long"}
