"""The jobs of a server: accepted, queued, given to workers, ended, forgotten. Of one event loop, in one thread."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from hunyuan_video.checkpoints.configs import read_configs
from hunyuan_video.checkpoints.layout import checkpoint_folder
from hunyuan_video.models.grid import Grid
from hunyuan_video.sampling.models import read_defaults
from hunyuan_video.sampling.request import as_arguments
from hunyuan_video.serving.config import ServerConfig
from hunyuan_video.serving.events import EventHub
from hunyuan_video.serving.metrics import Metrics
from hunyuan_video.serving.parameters import VideoRequest
from hunyuan_video.serving.pool import Pool, WorkerProcess
from hunyuan_video.serving.problems import Problem, not_here
from hunyuan_video.serving.progress import Progress
from hunyuan_video.serving.store import (
    CANCELLED,
    COMPLETED,
    FAILED,
    IMAGE,
    QUEUED,
    RUNNING,
    STATE,
    Job,
    JobStore,
    new_id,
)  # fmt: skip

log = logging.getLogger("hunyuan_video.serving")
CRASHES = 2  # of workers, after which a job is failed
CLEAN_EVERY = 60.0  # seconds
DAY = 86_400.0
LONGEST_RETRY = 15  # seconds: clients sleep what they are told, without a word
GUESS = 2.0  # seconds a job, before one is known


class JobService:
    """Everything that happens to jobs."""

    def __init__(self, config: ServerConfig):
        folder = checkpoint_folder(config.model)
        self.config = config
        vae, transformer = read_configs(folder)
        self.defaults, self.grid = read_defaults(folder, config.adapter), Grid.of(vae, transformer)
        self.continues_images = transformer is not None and bool(transformer.image_condition)
        self.store = JobStore(config.data)
        self.metrics = Metrics()
        self.pool = Pool(config, self._on_message, self._on_death)
        self.hub = EventHub(lambda wanted: self.pool.send(previews=wanted))
        self.draining = False
        self.fatal: str | None = None  # why no worker can ever load the models
        self.on_fatal: Callable[[], None] = lambda: None
        self._since = int(time.time())
        self.queue: list[Job] = []
        self._live: dict[str, Job] = {}  # queued or running
        self._progress: dict[str, Progress] = {}
        self._job_seconds = GUESS
        self._cleaner: asyncio.Task[None] | None = None

    # The life of the service.

    def start(self) -> None:
        """Takes up the jobs of an earlier process, and starts the workers."""
        self.store.remove_strays()
        for job in self.store.unfinished():
            self._live[job.id] = job
            self.queue.append(job)
        self.pool.start()
        self._cleaner = asyncio.create_task(self._clean_regularly())

    async def stop(self) -> None:
        """Lets running jobs stop after their step; they and the queue go on when a server is started again."""
        self.draining = True
        if self._cleaner is not None:
            self._cleaner.cancel()
        await self.pool.close(self.config.drain_seconds)
        self.hub.close()

    def loras(self) -> dict[str, Path]:
        """Names that requests may use, and their files."""
        if self.config.loras is None:
            return {}
        return {path.stem: path for path in sorted(self.config.loras.glob("*.safetensors")) if path.is_file()}

    def model_view(self) -> dict[str, Any]:
        """The model as the API shows it: OpenAI's fields, what it is sampled with by default, and the LoRAs."""
        defaults = vars(self.defaults)
        fixed = {"id": self.config.model_id, "object": "model", "created": self._since, "owned_by": "hunyuan-video"}
        sizes = {"multiple": self.grid.multiple, "temporal": self.grid.temporal}
        images = self.continues_images
        return {**fixed, "defaults": defaults, "grid": sizes, "loras": sorted(self.loras()), "input_reference": images}

    def check_picture(self, given: bool) -> None:
        """Problem where the model needs a picture and has none, or the other way round."""
        if given == self.continues_images:
            return
        text = "this model continues a picture: send one as input_reference, in a multipart form"
        if given:
            text = "this model makes videos from text only; leave input_reference out"
        raise Problem(400, text, code="invalid_value", param="input_reference")

    def unfinished(self, owner: str) -> list[Job]:
        """The owner's jobs that are not over, the oldest first."""
        return sorted((job for job in self._live.values() if job.owner == owner), key=lambda job: job.number)

    # What clients do.

    def create(
        self,
        owner: str,
        request: VideoRequest,
        *,
        image: bytes | None = None,  # a PNG
        idempotency: str | None = None,
        remixed_from: str | None = None,
    ) -> Job:
        """A new job in the queue; or the one that this idempotency key has made before."""
        if idempotency is not None and (known := self.store.by_idempotency(idempotency, owner)) is not None:
            return self._live.get(known.id, known)
        self._check_room(owner)
        job = Job(
            id=new_id(), owner=owner, prompt=request.prompt, model=self.config.model_id, arguments=request.arguments,
            settings=request.settings.as_dict(), loras=[list(lora) for lora in request.loras], seconds=request.seconds,
            has_image=image is not None, remixed_from=remixed_from, idempotency=idempotency,
        )  # fmt: skip
        if image is not None:
            place = self.store.place(job)
            place.mkdir()
            (place / IMAGE).write_bytes(image)
        self.store.add(job)
        self._live[job.id] = job
        self.queue.append(job)
        self.metrics.created.inc()
        self._publish(job)
        self._dispatch()
        return job

    def _check_room(self, owner: str) -> None:
        if self.draining:
            raise Problem(503, "the server is being stopped; try again soon", code="draining", retry_after=5)
        of_owner = sum(job.owner == owner for job in self.queue)
        for count, limit in ((len(self.queue), self.config.max_queue), (of_owner, self.config.max_queue_per_key)):
            if count >= limit:
                self.metrics.refused.inc()
                wait = min(max(round(self._job_seconds), 1), LONGEST_RETRY)
                raise Problem(429, f"{count} videos wait already; try again later", code="queue_full", retry_after=wait)

    def get(self, id: str, owner: str) -> Job:
        """A job of this owner; Problem for any other."""
        job = self._live.get(id)
        if job is None or job.owner != owner:
            job = self.store.get(id, owner) if id.isascii() else None
        if job is None:
            raise not_here(id)
        return job

    def page(self, owner: str, after: str | None, limit: int, newest_first: bool) -> tuple[list[Job], bool]:
        """Jobs behind the one called `after`, at most `limit`, and whether there are more."""
        anchor = None if after is None else self.get(after, owner)
        jobs = self.store.page(owner, anchor, limit + 1, newest_first)
        return [self._live.get(job.id, job) for job in jobs[:limit]], len(jobs) > limit

    def cancel(self, job: Job) -> Job:
        """Ends a job that is not over, keeping its state."""
        if not job.ended:
            if job in self.queue:
                self.queue.remove(job)
            if (worker := self.pool.of(job.id)) is not None:
                worker.send(cancel=job.id)
            self._end(job, CANCELLED, "cancelled", "the video was cancelled; it can be continued")
        return job

    def resume(self, job: Job) -> Job:
        """Queues a job again that was cancelled or has failed; it goes on at its step."""
        if job.status not in (CANCELLED, FAILED):
            raise Problem(400, f"the video is {job.status}; only a cancelled or failed one continues", code="not_ended")
        self._check_room(job.owner)
        job.status, job.error_code, job.error_message = QUEUED, None, None
        job.completed_at, job.crashes, job.size_bytes = None, 0, 0
        self.store.update(job)
        self._live[job.id] = job
        self.queue.append(job)
        self._publish(job)
        self._dispatch()
        return job

    def delete(self, job: Job) -> None:
        """Forgets a job and its files; one that runs is canceled before."""
        self.cancel(job)
        self.store.remove(job)
        if self.pool.of(job.id) is None:  # else when its worker lets go of it
            self.store.remove_files(job.id)
        self.hub.publish(job.owner, job.id, {"type": "video.deleted", "id": job.id})

    def view(self, job: Job) -> dict[str, Any]:
        """A job as the API shows it: OpenAI's fields, and this server's."""
        settings, progress = job.settings, self._progress.get(job.id)
        total = settings["num_inference_steps"]
        step = total if job.status == COMPLETED else progress.step if progress else 0
        error = None if job.error_code is None else {"code": job.error_code, "message": job.error_message}
        ended = None if job.completed_at is None else int(job.completed_at)
        return {
            "id": job.id,
            "object": "video",
            "created_at": int(job.created_at),
            "completed_at": ended,
            "expires_at": None if ended is None else int(ended + DAY * self.config.keep_days),
            "status": job.status,
            "progress": 100 if job.status == COMPLETED else int(99 * step / total),
            "model": job.model,
            "prompt": job.prompt,
            "seconds": job.seconds or f"{settings['num_frames'] / self.defaults.fps:g}",
            "size": f"{settings['width']}x{settings['height']}",
            "remixed_from_video_id": job.remixed_from,
            "error": error,
            "seed": job.arguments["seed"],
            "settings": settings,
            "negative_prompt": job.arguments.get("negative_prompt"),
            "loras": [{"name": name, "weight": weight} for name, weight in job.loras],
            "step": step,
            "total_steps": total,
            "eta_seconds": None if progress is None or progress.eta is None else round(progress.eta, 2),
            "queue_position": self.queue.index(job) + 1 if job.status == QUEUED and job in self.queue else None,
        }

    # What workers do.

    def _dispatch(self) -> None:
        """Gives waiting jobs to workers in order. One whose LoRAs no worker has loaded waits for one without jobs, and
        those behind it with it.
        """
        while self.queue and not self.draining:
            job, files = self.queue[0], self.loras() if self.queue[0].loras else {}
            missing = [name for name, _ in job.loras if name not in files]
            if missing:
                self.queue.pop(0)
                self._end(job, FAILED, "invalid_request", f"the LoRA {missing[0]!r} is no longer here")
                continue
            loras = [[str(files[name]), weight] for name, weight in job.loras]
            worker = self.pool.taker(loras)
            if worker is None or self.pool.of(job.id) is not None:  # its worker has not let go of it yet
                break
            self.queue.pop(0)
            self._give(job, worker, loras)
        self._count()

    def _give(self, job: Job, worker: WorkerProcess, loras: list[Any]) -> None:
        place = self.store.place(job)
        place.mkdir(exist_ok=True)
        worker.active.add(job.id)
        worker.loras = loras
        self._progress[job.id] = Progress(job.settings["num_inference_steps"])
        job.status, job.started_at = RUNNING, job.started_at or time.time()
        self.store.update(job)
        arguments = {**job.arguments, **as_arguments(job.settings)}
        run = {"id": job.id, "folder": str(place.resolve()), "prompt": job.prompt, "arguments": arguments}
        worker.send(run={**run, "loras": loras, "image": job.has_image})
        self._publish(job)

    def _on_message(self, worker: WorkerProcess, message: dict[str, Any]) -> None:
        if "step" in message:
            self._on_step(message)
        elif "working" in message:
            worker.working = message["working"]
        elif "ready" in message:
            worker.send(previews=self.hub.previews)
            self._dispatch()
        elif "fatal" in message:
            self.fatal = message["fatal"]
            self.on_fatal()
        elif "done" in message:
            self._released(worker, message["done"], COMPLETED)
        elif "failed" in message:
            text, code = message["message"], "server_error" if message["internal"] else "generation_failed"
            if message["argument"]:
                code = "invalid_request"
            self._released(worker, message["failed"], FAILED, code, text.replace(str(self.config.data.resolve()), ""))
        elif "stopped" in message:
            self._released(worker, message["stopped"], RUNNING)

    def _on_step(self, message: dict[str, Any]) -> None:
        job, progress = self._live.get(message["step"]), self._progress.get(message["step"])
        if job is None or progress is None:
            return
        since = progress.update(message["number"])
        if since is not None:
            self.metrics.steps.observe(since)
        self._publish(job, message["preview"])

    def _released(
        self, worker: WorkerProcess, id: str, status: str, code: str | None = None, text: str | None = None
    ) -> None:
        """A worker has let go of a job, which is over now, or (RUNNING) was stopped."""
        worker.active.discard(id)
        worker.working = None if worker.working == id else worker.working
        job = self._live.get(id)
        if job is not None and job.status == RUNNING:
            if status != RUNNING:
                self._end(job, status, code, text)
            elif not self.draining:  # nobody asked: let it go on
                self.queue.insert(0, job)
        elif job is None and self.store.known(id) is None:
            self.store.remove_files(id)
        self._dispatch()

    def _on_death(self, worker: WorkerProcess, message: dict[str, Any]) -> None:
        """A worker's process has ended: its jobs go on elsewhere, the one that it was computing once."""
        if self.draining:
            return
        self.metrics.crashes.inc()
        for id in sorted(worker.active):
            job = self._live.get(id)
            if job is None or job.status != RUNNING:
                if self.store.known(id) is None:
                    self.store.remove_files(id)
                continue
            job.crashes += id == worker.working
            if job.crashes >= CRASHES:
                text = f"the process that computed this video ended unexpectedly {job.crashes} times"
                self._end(job, FAILED, "worker_crashed", text)
            else:
                self.store.update(job)
                self.queue.insert(0, job)
        worker.active = set()
        self._dispatch()

    def _end(self, job: Job, status: str, code: str | None = None, text: str | None = None) -> None:
        job.status, job.completed_at, job.error_code, job.error_message = status, time.time(), code, text
        if status == COMPLETED:
            (self.store.place(job) / STATE).unlink(missing_ok=True)
        job.size_bytes = self.store.size(job)
        self.store.update(job)
        self._live.pop(job.id, None)
        progress = self._progress.pop(job.id, None)
        if progress is not None:
            seconds = time.monotonic() - progress.began
            self.metrics.jobs.observe(seconds)
            self._job_seconds += 0.2 * (seconds - self._job_seconds)
        self.metrics.ended.labels(status).inc()
        self._publish(job)
        self._make_room()
        self._count()

    def _publish(self, job: Job, preview: str | None = None) -> None:
        self.hub.publish(
            job.owner, job.id, {"type": f"video.{job.status}", "video": self.view(job), "preview": preview}
        )

    def _count(self) -> None:
        self.metrics.queued.set(len(self.queue))
        self.metrics.running.set(sum(len(worker.active) for worker in self.pool.workers))
        self.metrics.workers.set(sum(worker.ready for worker in self.pool.workers))

    # Retention.

    async def _clean_regularly(self) -> None:
        with suppress(asyncio.CancelledError):
            while True:
                self.clean()
                await asyncio.sleep(CLEAN_EVERY)

    def clean(self) -> None:
        """Deletes jobs that have expired, and the oldest while the files of all are more than the limit."""
        for job in self.store.ended_before(time.time() - DAY * self.config.keep_days):
            self.delete(job)
        self._make_room()

    def _make_room(self) -> None:
        limit = self.config.max_disk_gb * 1e9
        while (stored := self.store.stored_bytes()) > limit and (oldest := self.store.oldest_ended()) is not None:
            log.warning("deleting video %s: %d bytes of videos are more than --max-disk-gb", oldest.id, stored)
            self.delete(oldest)
        self.metrics.disk.set(stored)
