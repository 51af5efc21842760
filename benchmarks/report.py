"""The report of a machine in Markdown: what it is, the targets, and every table; and a row as a line of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.results import (
    ABSENT,
    OURS,
    Entry,
    Peer,
    Row,
    Taken,
    amount,
    base_of,
    entries,
    grouped,
    is_peer,
    rows_of,
)
from benchmarks.targets import judge, table_of, verdict

Results = dict[str, Any]
MODELS = "Blocks, models, pipeline, start"
MEMORY = "Peak memory above the imported libraries, weights included"


def tables(results: Results) -> str:
    """The whole report."""
    rows = list(rows_of(results))
    parts = [_machine(results), _targets(rows)]
    for title, chosen in _sections(results):
        parts.append(f"## {title}\n\n{comparison(chosen)}")
    if any(row.settings for row in rows):
        parts.append("## Both sides with the same settings\n\n" + same_settings(rows))
    parts.append("## Every contender\n\n" + everyone(rows))
    return "\n\n".join(part for part in parts if part) + "\n"


def targets(results: Results) -> str:
    """Every target and whether it is met."""
    return _targets(list(rows_of(results)))


def _targets(rows: Sequence[Row]) -> str:
    """Targets of a CPU, from the table of targets.py; on a GPU each row has its own."""
    rows = [row for row in rows if row.device == "cpu"]
    if not rows:
        return ""
    return "## Targets\n\n" + table_of(judge(rows))


def _sections(results: Results) -> Iterator[tuple[str, list[Row]]]:
    """Tables by title: a part that has one is a table; of the others operations, models and memory are."""
    plain: dict[str, list[Row]] = {title: [] for title in ("Operations", MODELS, MEMORY)}
    for name, part in results["parts"].items():
        rows = list(rows_of({"parts": {name: part}}))
        if "title" in part:
            yield part["title"], rows
            continue
        for row in rows:
            memory = row.ms is None and row.memory_gb is not None
            plain["Operations" if name == "operations" else MEMORY if memory else MODELS].append(row)
    yield from ((title, chosen) for title, chosen in plain.items() if chosen)


def comparison(rows: Sequence[Row]) -> str:
    """A line for each work: this package, the first peer, the best peer variant, and the ratios (above 1: this package
    needs less).
    """
    rated = any(row.rate for row in rows)
    head = ["operation", "shape", "dtype", OURS, "peer", "ratio", "best peer variant", "ratio", "error, ours / peer"]
    lines = [[*head, "rate", "of ceiling", "target"] if rated else head]
    for key, group in grouped(rows).items():
        base = base_of(group)
        if base is None:
            lines += [[*key[:3], row.note or "-", *["-"] * (len(lines[0]) - 4)] for row in group if not row.settings]
            continue
        line = [*key[:3], _number(base), *_against(base, [entry for entry in entries(group) if is_peer(entry.name)])]
        lines.append([*line, *_rate(base)] if rated else line)
    return markdown(lines)


def _against(base: Row, peers: list[Entry]) -> list[str]:
    first = next((entry for entry in peers if not entry.settings), None)
    if first is None:
        return ["-", "-", "-", "-", _error(base)]
    best = min(peers, key=lambda entry: entry.ratio)
    shown = "the same" if best is first else f"{_number(best.taken)} ({best.variant})"
    errors = f"{_error(base)} / {_error(first.taken)}"
    return [f"{_number(first.taken)} ({first.name})", _ratio(first.ratio), shown, _ratio(best.ratio), errors]


def same_settings(rows: Sequence[Row]) -> str:
    """A line for each race whose process had other settings."""
    lines = [["operation", "shape", "dtype", "settings", OURS, "peer", "ratio"]]
    for row in rows:
        for name, peer in row.peers.items():
            if row.settings and amount(row) and amount(peer) and is_peer(name):
                ratio = row.ratio(name) or 0.0
                lines.append([*row.key[:3], row.settings, _number(row), f"{_number(peer)} ({name})", _ratio(ratio)])
    return markdown(lines)


def everyone(rows: Sequence[Row]) -> str:
    """A line for each contender of each race."""
    lines = [["operation", "shape", "dtype", "contender", "median (minimum)", "rounds", "ratio", "error"]]
    for group in grouped(rows).values():
        ratios = {id(entry.taken): entry.ratio for entry in entries(group)}
        for row in group:
            for name, taken in ((OURS, row), *row.peers.items()):
                if amount(taken) is None:
                    continue
                ratio = _ratio(ratios[id(taken)]) if id(taken) in ratios else "-"
                variant = Entry(name, taken, 0.0, row.settings).variant
                lines.append([*row.key[:3], variant, _number(taken), str(taken.rounds or "-"), ratio, _error(taken)])
    return markdown(lines)


def markdown(lines: Sequence[Sequence[str]]) -> str:
    head, *rest = lines
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *rest))


def _ratio(ratio: float) -> str:
    return f"{ratio:.0f}" if ratio >= 20 else f"{ratio:.2f}"


def _number(taken: Taken) -> str:
    """Median and, in brackets, minimum where it differs; memory where that is known."""
    if taken.ms is None:
        return "-" if taken.memory_gb is None else f"{1e3 * taken.memory_gb:.0f} MB"
    scale, unit = (1e-3, "s") if taken.ms >= 1e3 else (1.0, "ms")
    digits = 2 if unit == "s" else 1 if taken.ms >= 10 else 3
    least = "" if taken.ms_min is None else f" ({taken.ms_min * scale:.{digits}f})"
    memory = "" if taken.memory_gb is None else f", {taken.memory_gb:.1f} GB"
    return f"{taken.ms * scale:.{digits}f}{least} {unit}{memory}"


def _rate(row: Row) -> list[str]:
    share = "-" if row.ceiling is None else f"{row.ceiling:.0%}"
    return ["-" if row.rate is None else _rate_of(row), share, verdict(row) or "-"]


def _rate_of(row: Row) -> str:
    return f"{row.rate:.{0 if (row.rate or 0) >= 100 else 2}f} {row.unit}"


def _error(taken: Taken) -> str:
    return "-" if taken.error is None else f"{taken.error:.1e}"


def _machine(results: Results) -> str:
    details = dict(results["machine"])
    lines = ["# Benchmark results", ""]
    if details:
        libraries = ", ".join(f"{name} {number}" for name, number in details.pop("libraries", {}).items() if number)
        described = [str(details.pop("device", "no device")), *_facts(details), libraries]
        lines += ["; ".join(part for part in described if part) + ".", ""]
    explained = (
        "Median and, where it is known, (minimum). Ratio: peer / ours, above 1 is better for this package, of the race "
        "that both ran in, in turn in one process, though the table may show this package's time of another part."
    )
    lines += [explained, ""]
    head = ["measured", "date", "commit", "load before, after", "processors used by others", "result"]
    return "\n".join(lines) + "\n" + markdown([head, *_parts(results)])


def _facts(details: Results) -> Iterator[str]:
    for name, value in details.items():
        if value not in (None, "", {}, []):
            shown = ", ".join(map(str, value)) if isinstance(value, list) else value
            yield f"{name.replace('_', ' ')} {shown}"


def _parts(results: Results) -> Iterator[list[str]]:
    for name, part in results["parts"].items():
        loads = f"{part['load_before']}, {part['load_after']}" if "load_before" in part else "-"
        others = part.get("others")
        shown = "not known" if others is None else f"{others:.0%}"
        yield [name, part.get("date", "-"), part.get("commit", "-"), loads, shown, _summary(part)]


def _summary(part: Results) -> str:
    if "ceilings" not in part:
        return part.get("summary", "-")
    products = ", ".join(f"{dtype} {rate:.0f}" for dtype, rate in part["ceilings"]["product"].items())
    return f"ceilings: copy {part['ceilings']['copy']:.2f} TB/s, products {products} TFLOP/s"


def line(row: Row) -> str:
    """A row as a line of text, for the log of a run on a GPU."""
    head = f"{row.op:<20} {row.shape:<34} {row.dtype:<9}"
    notes = [f"{name}: {peer.note}" for name, peer in row.peers.items() if peer.note and peer.note != ABSENT]
    tail = "".join(f"\n    {note}" for note in notes)
    if row.ms is None:
        return f"{head} {row.note}{tail}"
    parts = [f"{1e3 * row.ms:>12.1f} us"]
    if row.rate is not None:
        share = f"{row.ceiling:>4.0%}" if row.ceiling is not None else "   -"
        parts.append(f"{row.rate:>7.{0 if row.rate >= 100 else 2}f} {row.unit:<8} {share} of ceiling")
    if row.memory_gb is not None:
        parts.append(f"peak {row.memory_gb:.1f} GB")
    for name, peer in row.peers.items():
        ratio = row.ratio(name)
        parts.append(f"x{ratio:.2f} {name}{_details(peer)}" if ratio is not None else "")
    if row.error is not None:
        parts.append(f"error {row.error:.1e}")
    parts += [f"[{verdict(row)}]" if verdict(row) else "", row.note]
    return f"{head} " + " | ".join(part for part in parts if part) + tail


def _details(peer: Peer) -> str:
    details = [f"error {peer.error:.1e}"] if peer.error is not None else []
    details += [f"{peer.memory_gb:.1f} GB"] if peer.memory_gb is not None else []
    return f" ({', '.join(details)})" if details else ""
