"""A worker: a process that holds the models on one device and computes jobs, `python -m hunyuan_video.serving.worker`.

It reads messages, a JSON object a line, from its standard input and answers on its standard output:

| message | answer |
|---|---|
| first: {"model", "dtype", "device", "adapter", "threads", "active"} | {"ready": {...}}, or {"fatal": text} and the end |
| {"run": {"id", "folder", "prompt", "arguments", "loras", "image"}} | {"working": id} before each piece of its work; {"step": id, "number", "total", "preview"} after each step; then {"done": id, "bytes"}, {"failed": id, "message", "internal"} or {"stopped": id} |
| {"cancel": id} | {"stopped": id}, its state kept |
| {"previews": true or false} | steps come with a preview, or without |
| {"drain": true} | every job stops after its step, its state kept; then the process ends |

It ends when its standard input does, and is killed by the system when its parent ends.
"""  # noqa: E501

from __future__ import annotations

import base64
import ctypes
import io
import json
import os
import signal
import sys
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from hunyuan_video.errors import ArgumentError, IneffectiveArgument, UserError
from hunyuan_video.serving.store import IMAGE, SHEET, STATE, THUMBNAIL, VIDEO

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from hunyuan_video.sampling import HunyuanVideoPipeline, SampleOutput
    from hunyuan_video.sampling.interleave import Event, ScheduledRun

KILL_WITH_PARENT = 1  # PR_SET_PDEATHSIG
THUMBNAIL_FRAME = 0


class Answers:
    """Lines to the parent, from any thread."""

    def __init__(self, file: BinaryIO):
        self._file, self._lock = file, threading.Lock()

    def send(self, **message: Any) -> None:
        with self._lock:
            self._file.write(json.dumps(message).encode() + b"\n")
            self._file.flush()


class Worker:
    """Jobs over one pipeline."""

    def __init__(self, pipe: HunyuanVideoPipeline, answers: Answers, model: str, adapter: str | None, active: int):
        from hunyuan_video.sampling.interleave import RunScheduler

        self.pipe, self.answers, self.model, self.adapter = pipe, answers, model, adapter
        self.previews = False
        self.jobs: dict[str, tuple[dict[str, Any], ScheduledRun]] = {}
        self._loras: list[list[Any]] = []
        self._threads: dict[str, threading.Thread] = {}
        self._writing = threading.Lock()  # a video at a time is encoded, while the device goes on with the next job
        self.scheduler = RunScheduler(pipe.models, active=active, on_turn=lambda run: answers.send(working=run.name))

    def run(self, job: dict[str, Any]) -> None:
        """Starts a job, or continues it where its state file is."""
        from hunyuan_video.sampling.request import SampleRequest

        folder = Path(job["folder"])
        state = folder / STATE
        try:
            self._use_loras(job["loras"])
            arguments: dict[str, Any] = {"prompt": job["prompt"], **job["arguments"]}
            if state.is_file():
                arguments = {"resume_from": state, "vae_mode": arguments.get("vae_mode", "auto")}
            elif job["image"]:
                arguments["image"] = folder / IMAGE
            request = SampleRequest(**arguments, checkpoint_to=state)
            run = self.scheduler.submit(request, name=job["id"], on_event=self._event)
        except Exception as error:
            self.answers.send(**self._failure(job["id"], error))
            return
        self.jobs[job["id"]] = (job, run)
        self._threads[job["id"]] = threading.Thread(target=self._watch, args=(job, run), daemon=True)
        self._threads[job["id"]].start()

    def cancel(self, id: str) -> None:
        if id in self.jobs:
            self.jobs[id][1].cancel()

    def drain(self) -> None:
        """Ends every run after its step and waits for the files that are being written."""
        self.scheduler.close(cancel=True)
        for thread in list(self._threads.values()):
            thread.join()

    def _use_loras(self, loras: list[list[Any]]) -> None:
        """Adapters of the next jobs: [path, weight] each. The parent sends other ones only while no job is active."""
        if loras == self._loras:
            return
        self.pipe.unload_lora_weights()
        self._loras = []
        for number, (path, weight) in enumerate(loras):
            self.pipe.load_lora_weights(path, f"lora{number}", weight=weight)
        self._loras = loras

    def _event(self, run: ScheduledRun, event: Event) -> None:
        from hunyuan_video.sampling import StepEvent

        if isinstance(event, StepEvent):
            preview = preview_text(event.preview[0], self._preview_rate) if self.previews else None
            self.answers.send(step=run.name, number=event.step, total=event.total, preview=preview)

    @property
    def _preview_rate(self) -> float:
        return self.pipe.defaults.fps / self.pipe.grid.temporal

    def _watch(self, job: dict[str, Any], run: ScheduledRun) -> None:
        """Waits for the end of a run, writes its files and tells the parent."""
        run.wait()
        try:
            if run.error is not None:
                raise run.error
            answer: dict[str, Any] = {"stopped": job["id"]}
            if run.output is not None:
                with self._writing:
                    size = write_files(self.pipe, job, run.output, self.model, self.adapter)
                answer = {"done": job["id"], "bytes": size}
        except BaseException as error:
            answer = self._failure(job["id"], error)
        del self.jobs[job["id"]], self._threads[job["id"]]
        self.answers.send(**answer)
        if answer.get("internal") and self.pipe.device.type == "cuda":
            os._exit(1)  # after an error of CUDA nothing works in this process any more

    def _failure(self, id: str, error: BaseException) -> dict[str, Any]:
        known = isinstance(error, UserError)
        text = str(error) if known else f"{type(error).__name__}: {error}"
        if not known:
            print(f"job {id} failed: {text}", file=sys.stderr, flush=True)
        argument = isinstance(error, ArgumentError)
        return {"failed": id, "message": " ".join(text.split()), "internal": not known, "argument": argument}


def write_files(
    pipe: HunyuanVideoPipeline, job: dict[str, Any], output: SampleOutput, model: str, adapter: str | None
) -> int:
    """The video, its thumbnail and its contact sheet, each complete or not there; returns their bytes."""
    from hunyuan_video.media.write import save_video
    from hunyuan_video.sampling.record import run_record

    folder, fps = Path(job["folder"]), float(pipe.defaults.fps)
    frames: np.ndarray = output.frames[0]
    used = ",".join(filter(None, [adapter, *(f"{Path(path).name}:{weight:g}" for path, weight in job["loras"])]))
    options = {
        "adapter": used,
        "negative_prompt": job["arguments"].get("negative_prompt"),
        "image": IMAGE if job["image"] else None,
    }
    record = run_record(pipe.models, output, 0, [job["prompt"]], fps=fps, model=model, options=options)
    save_video(folder / THUMBNAIL, frames[THUMBNAIL_FRAME : THUMBNAIL_FRAME + 1], fps=fps)
    save_video(folder / SHEET, frames, fps=fps, contact_sheet=True)
    save_video(folder / VIDEO, frames, fps=fps, metadata=record)
    return sum((folder / name).stat().st_size for name in (VIDEO, THUMBNAIL, SHEET))


def preview_text(frames: Tensor, rate: float) -> str:  # uint8 [T, h, w, 3]
    """An animation of a few pixels as a data URL."""
    from PIL import Image

    pictures = [Image.fromarray(frame.numpy()) for frame in frames]
    file = io.BytesIO()
    duration = max(round(1000 / rate), 20)
    pictures[0].save(file, "WEBP", save_all=True, append_images=pictures[1:], duration=duration, loop=0, quality=80)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()


def load(settings: dict[str, Any]) -> HunyuanVideoPipeline:
    """The pipeline of a worker's settings."""
    import torch

    from hunyuan_video.sampling import HunyuanVideoPipeline

    if settings["threads"]:
        torch.set_num_threads(settings["threads"])
    dtype = getattr(torch, settings["dtype"]) if settings["dtype"] else None
    return HunyuanVideoPipeline.from_pretrained(
        settings["model"], dtype=dtype, device=settings["device"], adapter=settings["adapter"]
    )


def end_with_parent(parent: int) -> None:
    """The system kills this process when its parent ends, however that ends; it would hold a GPU's memory."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(KILL_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def private_output() -> Answers:
    """The pipe to the parent; what libraries print goes to standard error."""
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return Answers(pipe)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    warnings.simplefilter("ignore", IneffectiveArgument)  # jobs give every setting
    settings = json.loads(sys.stdin.readline())
    end_with_parent(settings["parent"])
    answers = private_output()
    try:
        pipe = load(settings)
    except UserError as error:
        answers.send(fatal=" ".join(str(error).split()))
        return
    worker = Worker(pipe, answers, settings["model"], settings["adapter"], settings["active"])
    answers.send(ready=True)
    for line in sys.stdin:
        message = json.loads(line)
        if "run" in message:
            worker.run(message["run"])
        elif "cancel" in message:
            worker.cancel(message["cancel"])
        elif "previews" in message:
            worker.previews = message["previews"]
        elif "drain" in message:
            worker.drain()
            break
    os._exit(0)


if __name__ == "__main__":
    main()
