"""Raters, their tasks and votes in a SQLite file: what was answered is there, whatever kills the process.

One connection, a transaction for a vote, on the disk before it is answered. Tokens are kept as their SHA-256 alone.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hunyuan_video.errors import UserError
from hunyuan_video.evaluation.study.votes import QUESTIONS

STORE_FILE = "study.sqlite"
VERSION = 1
DAY = 86400.0
_SCHEMA = f"""
CREATE TABLE raters (
    number INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL, link TEXT UNIQUE, expires REAL, session TEXT UNIQUE
);
CREATE TABLE clips (key TEXT PRIMARY KEY, prompt TEXT NOT NULL, system TEXT NOT NULL, UNIQUE (prompt, system));
CREATE TABLE tasks (
    key TEXT PRIMARY KEY, rater INTEGER NOT NULL REFERENCES raters, position INTEGER NOT NULL, prompt TEXT NOT NULL,
    lefts TEXT NOT NULL REFERENCES clips, rights TEXT NOT NULL REFERENCES clips, answer TEXT NOT NULL,
    UNIQUE (rater, position)
);
CREATE TABLE votes (
    number INTEGER PRIMARY KEY, task TEXT UNIQUE NOT NULL REFERENCES tasks,
    {", ".join(f"{question} TEXT NOT NULL" for question in QUESTIONS)},
    seconds REAL NOT NULL, at REAL NOT NULL
);
PRAGMA user_version={VERSION};
"""


class Conflict(Exception):
    """Another vote is stored for the task."""


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


class StudyStore:
    """The store of a study's folder; for one thread at a time, and one process."""

    def __init__(self, study: Path):
        self.path = study / STORE_FILE
        try:
            self._connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=2)
            self._connection.row_factory = sqlite3.Row
            self._connection.execute("PRAGMA foreign_keys=ON")
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=FULL")
            version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        except (OSError, sqlite3.Error) as error:
            raise UserError(f"cannot use {self.path}: {error}; is it another program's, or the disk full?") from error
        if version not in (0, VERSION):
            raise UserError(f"{self.path} was written by another version of this program; choose a new study")
        self.is_new = version == 0

    def close(self) -> None:
        self._connection.close()

    def fill(
        self,
        clips: Iterable[tuple[str, str, str]],  # (key, prompt, system)
        tasks: Mapping[str, Sequence[tuple[str, str, str, str]]],  # rater -> (prompt, left key, right key, answer)
    ) -> None:
        """Writes a new study's raters and tasks, all or nothing."""
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            for statement in _SCHEMA.split(";"):
                execute(statement)
            self._connection.executemany("INSERT INTO clips VALUES (?, ?, ?)", clips)
            for number, (rater, rows) in enumerate(tasks.items()):
                execute("INSERT INTO raters (number, name) VALUES (?, ?)", (number, rater))
                for position, row in enumerate(rows):
                    values = (secrets.token_urlsafe(16), number, position, *row)
                    execute("INSERT INTO tasks VALUES (?, ?, ?, ?, ?, ?, ?)", values)
            execute("COMMIT")
        except BaseException:
            execute("ROLLBACK")
            raise
        self.is_new = False

    def raters(self) -> list[str]:
        """Names in order."""
        return [row["name"] for row in self._connection.execute("SELECT name FROM raters ORDER BY number")]

    def invite(self, rater: str, days: float) -> str:
        """A new link's token for a rater; the ones before, and an open page, end. UserError for an unknown name."""
        token = secrets.token_urlsafe(32)
        done = self._connection.execute(
            "UPDATE raters SET link = ?, expires = ?, session = NULL WHERE name = ?",
            (digest(token), time.time() + days * DAY, rater),
        )
        if done.rowcount != 1:
            raise UserError(f"no rater {rater!r} in this study; there are {', '.join(self.raters()[:5])}, ...")
        return token

    def enter(self, token: str) -> str | None:
        """Exchanges a link's token, which ends, for a session's; None where it is unknown, used or expired."""
        session = secrets.token_urlsafe(32)
        done = self._connection.execute(
            "UPDATE raters SET session = ?, link = NULL WHERE link = ? AND expires > ?",
            (digest(session), digest(token), time.time()),
        )
        return session if done.rowcount == 1 else None

    def rater_of(self, session: str) -> int | None:
        """The number of the rater with a session; None for others."""
        row = self._connection.execute("SELECT number FROM raters WHERE session = ?", (digest(session),)).fetchone()
        return None if row is None else row["number"]

    def next_task(self, rater: int) -> dict[str, Any]:
        """{done, total} and, where there is one, the first task without a vote: {task, prompt, left, right}."""
        query = "SELECT count(*) AS total, count(votes.task) AS done FROM tasks LEFT JOIN votes ON task = key"
        counts = dict(self._connection.execute(f"{query} WHERE rater = ?", (rater,)).fetchone())
        row = self._connection.execute(
            "SELECT key AS task, prompt, lefts, rights FROM tasks LEFT JOIN votes ON task = key "
            "WHERE rater = ? AND votes.task IS NULL ORDER BY position LIMIT 1",
            (rater,),
        ).fetchone()
        if row is None:
            return counts
        return counts | {"task": row["task"], "prompt": row["prompt"], "left": row["lefts"], "right": row["rights"]}

    def may_see(self, rater: int, clip: str) -> bool:
        """True for a clip of one of the rater's tasks."""
        query = "SELECT 1 FROM tasks WHERE rater = ? AND ? IN (lefts, rights) LIMIT 1"
        return self._connection.execute(query, (rater, clip)).fetchone() is not None

    def vote(self, rater: int, task: str, answers: Mapping[str, str], seconds: float) -> bool:
        """Stores a vote, on the disk when this returns: True; False where the same one is there already.

        KeyError for a task that is not the rater's, Conflict where another vote is stored.
        """
        own = self._connection.execute("SELECT 1 FROM tasks WHERE key = ? AND rater = ?", (task, rater)).fetchone()
        if own is None:
            raise KeyError(task)
        values = [answers[question] for question in QUESTIONS]
        done = self._connection.execute(
            f"INSERT INTO votes (task, {', '.join(QUESTIONS)}, seconds, at) VALUES (?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (task) DO NOTHING",
            (task, *values, seconds, time.time()),
        )
        if done.rowcount == 1:
            return True
        stored = self._connection.execute("SELECT * FROM votes WHERE task = ?", (task,)).fetchone()
        if [stored[question] for question in QUESTIONS] != values:
            raise Conflict(task)
        return False

    def rows(self) -> Iterator[dict[str, str]]:
        """Votes with the names of systems, as rows of votes.csv, in the order they came."""
        query = (
            f"SELECT raters.name AS rater, a.prompt AS prompt, a.system AS 'left', b.system AS 'right', "
            f"{', '.join(QUESTIONS)}, answer AS 'check' FROM votes JOIN tasks ON task = tasks.key "
            "JOIN raters ON raters.number = rater JOIN clips a ON a.key = lefts JOIN clips b ON b.key = rights "
            "ORDER BY votes.number"
        )
        yield from map(dict, self._connection.execute(query))
