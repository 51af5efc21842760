"""`hunyuan-video curate`: sources to a manifest; what is done already is not done again."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hunyuan_video.curation import packages
from hunyuan_video.curation.captioner import with_caption
from hunyuan_video.curation.duplicates import mark_concepts, mark_duplicates
from hunyuan_video.curation.engine import ENGINES
from hunyuan_video.curation.lock import sole_merge, sole_run
from hunyuan_video.curation.manifest import (
    FOLDER,
    fragment_path,
    fragment_state,
    read_rows,
    write_manifest,
)
from hunyuan_video.curation.sources import SourceFile, list_sources
from hunyuan_video.curation.stages.embedding import WIDTH
from hunyuan_video.curation.tiers import Tier, assign, funnel, read_tiers
from hunyuan_video.curation.work import checked_output, made_of
from hunyuan_video.data.skipped import Skipped, counted, printable, write_skipped
from hunyuan_video.errors import ArgumentError, UserError

REFUSED = "refused.jsonl"


@dataclass(frozen=True)
class CurateRequest:
    """Settings of a curation run."""

    sources: tuple[str, ...]
    output: Path
    tiers: Path | None = None
    workers: int | None = None  # None: a process for every core, at most one a source
    engine: str = "local"
    limit: int | None = None  # sources
    part: tuple[int, int] = (0, 1)  # (which, of how many): sources are dealt out between machines


@dataclass
class Summary:
    """Counts of a run."""

    sources: int = 0
    done: int = 0  # in this run
    before: int = 0  # in earlier ones
    waiting: int = 0  # of other parts
    clips: int = 0
    refused: list[Skipped] = field(default_factory=list)
    tiers: dict[str, int] = field(default_factory=dict)
    refused_by: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = [f"{self.clips} clips of {self.sources} sources ({self.done} now, {self.before} before)"]
        if self.waiting:
            parts.append(f"{self.waiting} sources of other parts are missing")
        if self.refused:
            parts.append(f"{len(self.refused)} refused ({counted(self.refused)}; {REFUSED} names them)")
        parts.append("tiers: " + (", ".join(f"{name} {count}" for name, count in self.tiers.items()) or "none"))
        return "; ".join(parts)


def curate(
    request: CurateRequest,
    report: Callable[[str], None] = print,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Summary:
    """Analyzes what is missing and writes the manifest. Raises UserError.

    report: gets a line for each source that is refused or damaged. progress: sources done, and those to do.
    """
    check(request)
    packages.check()
    tiers = read_tiers(request.tiers)
    files, skipped = list_sources(request.sources)
    files = files[: request.limit]
    for entry in skipped:
        report(f"refused: {printable(entry.detail or f'{entry.path}: {entry.cause}')}")
    if not files:
        why = f" ({counted(skipped)})" if skipped else ""
        raise UserError(f"{' '.join(request.sources)}: no videos or pictures{why}")
    checked_output(request.output)
    with sole_run(request.output, request.part):
        summary = Summary(sources=len(files), refused=list(skipped))
        own = files[request.part[0] :: request.part[1]]
        todo = [file for file in own if not _is_done(file, request.output)]
        summary.before = len(own) - len(todo)
        _work(request, todo, summary, report, progress)
        merge(request.output, files, tiers, summary)
    return summary


def check(request: CurateRequest) -> None:
    """ArgumentError for settings that no source fits."""
    which, parts = request.part
    if not 0 <= which < parts:
        raise ArgumentError(f"part must be I/N with 0 <= I < N, got {which}/{parts}")
    for name in ("workers", "limit"):
        value = getattr(request, name)
        if value is not None and value < 1:
            raise ArgumentError(f"{name} must be at least 1, got {value}")
    if request.engine not in ENGINES:
        raise ArgumentError(f"engine must be one of {', '.join(ENGINES)}, got {request.engine!r}")


def _is_done(file: SourceFile, output: Path) -> bool:
    state = fragment_state(fragment_path(output, file.key))
    try:
        return state is not None and state[0] == made_of(file.path)
    except OSError:
        return False


def _work(
    request: CurateRequest,
    todo: Sequence[SourceFile],
    summary: Summary,
    report: Callable[[str], None],
    progress: Callable[[int, int], None],
) -> None:
    workers = min(request.workers or os.cpu_count() or 1, max(len(todo), 1))
    outcomes = ENGINES[request.engine](todo, request.output, workers) if todo else ()
    for done, outcome in enumerate(outcomes, 1):
        if outcome.refused:
            report(f"refused: {printable(f'{outcome.name}: {outcome.refused}')}")
            if not outcome.lasting:
                summary.refused.append(Skipped(outcome.name, "not readable now", outcome.refused))
        else:
            summary.done += 1
            if outcome.note:
                report(f"note: {printable(f'{outcome.name}: {outcome.note}')}")
        progress(done, len(todo))


def merge(output: Path, files: Sequence[SourceFile], tiers: Sequence[Tier], summary: Summary) -> None:
    """Joins the fragments of sources to the manifest: duplicates, concepts and tiers are of the whole set."""
    with sole_merge(output):
        rows: list[dict[str, Any]] = []
        embeddings: list[np.ndarray] = []
        unread = {entry.path for entry in summary.refused}
        for file in files:
            path = fragment_path(output, file.key)
            state = fragment_state(path)
            if state is None:
                summary.waiting += file.name not in unread
                continue
            if state[1]:
                summary.refused.append(Skipped(file.name, "not decodable", state[1]))
            for number, row in enumerate(read_rows(path)):
                data = row.pop("embedding")
                row.pop("thumbnail")
                vector = np.zeros(WIDTH, np.float32) if data is None else np.frombuffer(data, np.float16)
                embeddings.append(vector.astype(np.float32))
                row["embedding"] = f"{FOLDER}/{path.name}#{number}"
                rows.append(row)
        vectors = np.stack(embeddings) if embeddings else np.zeros((0, WIDTH), np.float32)
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
        mark_duplicates(rows, vectors)
        mark_concepts(rows, vectors)
        for row in rows:
            assign(row, tiers)
            with_caption(output, row)
        summary.clips = len(rows)
        summary.tiers = {tier.name: sum(tier.name in row["tiers"] for row in rows) for tier in tiers}
        summary.refused_by = dict(Counter(row["refused_by"] for row in rows if row["refused_by"]).most_common())
        write_manifest(output, rows, _about(rows, tiers, files, summary))
        write_skipped(output / REFUSED, summary.refused)


def _about(
    rows: Sequence[dict[str, Any]], tiers: Sequence[Tier], files: Sequence[SourceFile], summary: Summary
) -> dict[str, str]:
    counts = {
        tier.name: [[each.column, str(each), reached, kept] for each, reached, kept in funnel(rows, tier)]
        for tier in tiers
    }
    sources = {"sources": len(files), "refused": [vars(entry) for entry in summary.refused], "waiting": summary.waiting}
    return {"funnel": json.dumps(counts), "sources": json.dumps(sources)}
