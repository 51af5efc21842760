"""The jobs of a server in a SQLite file, which a kill at any moment leaves whole.

A transaction per change, in a write-ahead log: what a client was answered is there after `kill -9`; a power failure may
lose the last moments. Files of a job are in a folder of its own, named by its id, which the server made up.
"""

from __future__ import annotations

import json
import secrets
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from hunyuan_video.errors import UserError

VERSION = 1
QUEUED, RUNNING, COMPLETED, FAILED, CANCELLED = "queued", "in_progress", "completed", "failed", "cancelled"
ENDED = (COMPLETED, FAILED, CANCELLED)
STATE, IMAGE, VIDEO, THUMBNAIL, SHEET = "state.safetensors", "image.png", "video.mp4", "thumbnail.webp", "sheet.png"


@dataclass
class Job:
    """One video job. Times are unix seconds."""

    id: str
    owner: str  # whose key made it; "" without keys
    prompt: str
    model: str
    arguments: dict[str, Any]  # of a SampleRequest
    settings: dict[str, Any]  # every number of the run
    loras: list[list[Any]] = field(default_factory=list)  # [name, weight] each
    seconds: str | None = None  # as asked for
    has_image: bool = False
    remixed_from: str | None = None
    status: str = QUEUED
    created_at: float = 0.0
    started_at: float | None = None
    completed_at: float | None = None
    error_code: str | None = None
    error_message: str | None = None
    crashes: int = 0  # of workers, in this job
    size_bytes: int = 0
    idempotency: str | None = None
    number: int = 0  # order of creation

    @property
    def ended(self) -> bool:
        return self.status in ENDED


COLUMNS = tuple(column.name for column in fields(Job))
JSON_COLUMNS = ("arguments", "settings", "loras")


def new_id() -> str:
    return f"video_{secrets.token_hex(16)}"


class JobStore:
    """The jobs below a folder; for one thread at a time."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.jobs = folder / "jobs"
        try:
            self.jobs.mkdir(parents=True, exist_ok=True)
            self._lock_file = (folder / "lock").open("w")
            self._connection = sqlite3.connect(
                folder / "jobs.sqlite", isolation_level=None, check_same_thread=False
            )  # made in one thread, used in another, never in two at a time
        except (OSError, sqlite3.Error) as error:
            raise UserError(f"cannot use the data folder {folder}: {error}; choose another --data") from error
        self._lock()
        self._connection.row_factory = sqlite3.Row
        self._prepare()

    def _lock(self) -> None:
        """One server a folder: two would both continue its jobs."""
        import fcntl

        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(f"another server uses {self.folder}; stop it or choose another --data") from error

    def _prepare(self) -> None:
        try:
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            version = self._connection.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, VERSION):
                raise UserError(f"{self.folder} was written by another version of this program; choose another --data")
            plain = ", ".join(name for name in COLUMNS if name not in ("number", "id"))
            self._connection.execute(
                f"CREATE TABLE IF NOT EXISTS jobs (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE, {plain})"
            )
            self._connection.execute("CREATE INDEX IF NOT EXISTS by_status ON jobs (status, number)")
            self._connection.execute("CREATE INDEX IF NOT EXISTS by_owner ON jobs (owner, number)")
            self._connection.execute(
                "CREATE UNIQUE INDEX IF NOT EXISTS once ON jobs (owner, idempotency) WHERE idempotency IS NOT NULL"
            )
            self._connection.execute(f"PRAGMA user_version={VERSION}")
        except sqlite3.DatabaseError as error:
            raise UserError(f"{self.folder}/jobs.sqlite is damaged ({error}); choose another --data") from error

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def add(self, job: Job) -> Job:
        """Stores a new job, which gets its number and time."""
        job.created_at = time.time()
        values = {name: value for name, value in _row(job).items() if name != "number"}
        with self._change() as connection:
            names, marks = ", ".join(values), ", ".join(f":{name}" for name in values)
            job.number = connection.execute(f"INSERT INTO jobs ({names}) VALUES ({marks})", values).lastrowid or 0
        return job

    def update(self, job: Job) -> None:
        """Stores what has changed of a job."""
        values = _row(job)
        changes = ", ".join(f"{name} = :{name}" for name in values if name not in ("id", "number"))
        with self._change() as connection:
            connection.execute(f"UPDATE jobs SET {changes} WHERE id = :id", values)

    def get(self, id: str, owner: str) -> Job | None:
        """A job of an owner."""
        return self._one("id = ? AND owner = ?", id, owner)

    def known(self, id: str) -> Job | None:
        """A job, whoever's it is."""
        return self._one("id = ?", id)

    def by_idempotency(self, key: str, owner: str) -> Job | None:
        return self._one("idempotency = ? AND owner = ?", key, owner)

    def _one(self, condition: str, *values: Any) -> Job | None:
        row = self._connection.execute(f"SELECT * FROM jobs WHERE {condition}", values).fetchone()
        return None if row is None else _job(row)

    def page(self, owner: str, after: Job | None, limit: int, newest_first: bool) -> list[Job]:
        """At most `limit` jobs of an owner in order of creation, those behind `after`."""
        sign, order = ("<", "DESC") if newest_first else (">", "ASC")
        condition, values = ("", [owner]) if after is None else (f"AND number {sign} ?", [owner, after.number])
        rows = self._connection.execute(
            f"SELECT * FROM jobs WHERE owner = ? {condition} ORDER BY number {order} LIMIT ?", [*values, limit]
        )
        return [_job(row) for row in rows]

    def unfinished(self) -> list[Job]:
        """Jobs to do, those first that were begun."""
        rows = self._connection.execute(
            "SELECT * FROM jobs WHERE status IN (?, ?) ORDER BY status, number", (RUNNING, QUEUED)
        )
        return [_job(row) for row in rows]

    def ended_before(self, time: float) -> list[Job]:
        """Jobs that were over at a time."""
        rows = self._connection.execute("SELECT * FROM jobs WHERE completed_at < ?", (time,))
        return [_job(row) for row in rows]

    def oldest_ended(self) -> Job | None:
        """The job that has been over for longest, of those that have files."""
        return self._one("completed_at IS NOT NULL AND size_bytes > 0 ORDER BY completed_at LIMIT 1")

    def stored_bytes(self) -> int:
        """Bytes of the files of jobs that are over."""
        return self._connection.execute("SELECT COALESCE(SUM(size_bytes), 0) FROM jobs").fetchone()[0]

    def remove(self, job: Job) -> None:
        """Forgets a job; its files stay until `remove_files`."""
        with self._change() as connection:
            connection.execute("DELETE FROM jobs WHERE id = ?", (job.id,))

    def place(self, job: Job) -> Path:
        """Folder of a job's files."""
        return self.jobs / job.id

    def size(self, job: Job) -> int:
        """Bytes of a job's files."""
        place = self.place(job)
        return sum(entry.stat().st_size for entry in place.iterdir()) if place.is_dir() else 0

    def remove_files(self, id: str) -> None:
        shutil.rmtree(self.jobs / id, ignore_errors=True)

    def remove_strays(self) -> None:
        """Deletes folders without a job: of jobs that were deleted, or never stored, when the server was killed."""
        known = {row["id"] for row in self._connection.execute("SELECT id FROM jobs")}
        for entry in self.jobs.iterdir():
            if entry.name not in known:
                shutil.rmtree(entry, ignore_errors=True)

    def close(self) -> None:
        self._connection.close()
        self._lock_file.close()


def _row(job: Job) -> dict[str, Any]:
    values = asdict(job)
    return values | {name: json.dumps(values[name]) for name in JSON_COLUMNS}


def _job(row: sqlite3.Row) -> Job:
    values = {name: row[name] for name in COLUMNS}
    values |= {name: json.loads(values[name]) for name in JSON_COLUMNS}
    return Job(**{**values, "has_image": bool(values["has_image"])})
