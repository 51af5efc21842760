"""Figures for Prometheus, of this server's process alone."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

STEP_BUCKETS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)
JOB_BUCKETS = (0.3, 1, 3, 10, 30, 100, 300, 1000, 3000, 10_000)
REQUEST_BUCKETS = (0.001, 0.003, 0.01, 0.02, 0.05, 0.1, 0.5, 2.5)


class Metrics:
    """A registry of its own, so that several servers in a process (tests) do not add up."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.created = Counter("hunyuan_video_jobs_created", "Jobs accepted", registry=registry)
        self.ended = Counter("hunyuan_video_jobs_ended", "Jobs over, by result", ["status"], registry=registry)
        self.refused = Counter("hunyuan_video_jobs_refused", "Jobs refused, the queue being full", registry=registry)
        self.queued = Gauge("hunyuan_video_jobs_queued", "Jobs that wait", registry=registry)
        self.running = Gauge("hunyuan_video_jobs_running", "Jobs that are being computed", registry=registry)
        self.workers = Gauge("hunyuan_video_workers_ready", "Workers with loaded models", registry=registry)
        self.crashes = Counter("hunyuan_video_worker_deaths", "Workers that died and were replaced", registry=registry)
        self.disk = Gauge("hunyuan_video_stored_bytes", "Bytes of finished videos", registry=registry)
        self.steps = Histogram(
            "hunyuan_video_step_seconds", "Time between steps of a job", buckets=STEP_BUCKETS, registry=registry
        )
        self.jobs = Histogram(
            "hunyuan_video_job_seconds", "Time from a job's start to its end", buckets=JOB_BUCKETS, registry=registry
        )
        self.requests = Histogram(
            "hunyuan_video_request_seconds", "Time to the head of an answer", ["method", "status"],
            buckets=REQUEST_BUCKETS, registry=registry,
        )  # fmt: skip

    def text(self) -> bytes:
        """The figures in Prometheus' text format."""
        return generate_latest(self.registry)
