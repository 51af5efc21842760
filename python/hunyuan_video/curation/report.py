"""`hunyuan-video curate report`: one page with the funnel of every tier and pictures of what each filter did."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hunyuan_video.curation.manifest import FILE, FOLDER, read_about, read_rows
from hunyuan_video.errors import UserError
from hunyuan_video.files import staged_file

PAGE = "report.html"
SHOWN = 12  # clips of each kind under a filter
SCORES = ("motion", "sharpness", "text_area", "logo_area", "aesthetic", "technical", "shake", "frozen")
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1180px; padding: 0 1em; color: #222; }
h1 { font-size: 1.5em } h2 { margin-top: 2em; border-bottom: 1px solid #ccc } h3 { margin: 1.4em 0 .4em }
table { border-collapse: collapse } td, th { padding: .2em .8em; text-align: right; border-bottom: 1px solid #eee }
td:first-child, th:first-child { text-align: left }
.bar { background: #e8e8e8; width: 260px; height: .9em; display: inline-block } .bar i { background: #47a; height: 100%;
display: block }
.clips { display: flex; flex-wrap: wrap; gap: 10px } figure { margin: 0; width: 170px; font-size: 12px }
figure img { max-width: 166px; max-height: 130px; border: 2px solid #393 } .refused img { border-color: #b33 }
figcaption { overflow-wrap: anywhere } .small { color: #666 }
"""


def write_report(output: Path) -> Path:
    """Writes OUT/report.html from OUT's manifest and fragments, nothing else; UserError where there is none."""
    rows = read_rows(output / FILE)
    about = read_about(output / FILE)
    pictures = _Pictures(output)
    parts = [_head(output, rows, about["sources"])]
    parts += [_tier(name, filters, rows, pictures) for name, filters in about["funnel"].items()]
    parts.append(_distributions(rows))
    parts.append(_refused(about["sources"]["refused"]))
    text = f"<!doctype html><meta charset=utf-8><title>Curation of {html.escape(output.name)}</title>"
    text += f"<style>{STYLE}</style>" + "\n".join(parts)
    path = output / PAGE
    with staged_file(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))
    return path


class _Pictures:
    """Thumbnails, from the fragments that hold them."""

    def __init__(self, output: Path):
        self.output = output
        self.fragments: dict[str, list[bytes | None]] = {}

    def of(self, row: Mapping[str, Any]) -> str:
        """An <img> of a clip; "" where it has none."""
        name, _, number = row["embedding"].partition("#")
        if name not in self.fragments:
            if Path(name).parent != Path(FOLDER):
                raise UserError(f"{self.output / FILE}: names a fragment outside {FOLDER}; curate again")
            read = read_rows(self.output / name, ["thumbnail"])
            self.fragments[name] = [fragment["thumbnail"] for fragment in read]
        pictures = self.fragments[name]
        data = pictures[int(number)] if int(number) < len(pictures) else None
        return f'<img src="data:image/jpeg;base64,{base64.b64encode(data).decode()}" alt="">' if data else ""


def _head(output: Path, rows: Sequence[Mapping[str, Any]], sources: Mapping[str, Any]) -> str:
    hours = sum(row["seconds"] for row in rows) / 3600
    lines = [
        f"<h1>Curation of {html.escape(output.name)}</h1>",
        f"<p>{len(rows)} clips, {hours:.2f} hours, of {sources['sources']} sources; {len(sources['refused'])} refused.",
        "Thresholds are in the tiers file: the same command with <code>--tiers COPY</code> decodes nothing.</p>",
    ]
    return "\n".join(lines)


def _tier(name: str, filters: Sequence[Sequence[Any]], rows: Sequence[Mapping[str, Any]], pictures: _Pictures) -> str:
    kept = [row for row in rows if name in row["tiers"]]
    parts = [f"<h2>Tier {html.escape(name)}: {len(kept)} clips</h2>", _funnel(filters)]
    if kept:
        parts.append("<h3>Kept</h3>" + _figures(kept, "kept", pictures))
    left = _reaching(filters, rows, name)
    for column, condition, _, _ in filters:
        refused = left.get(column, [])
        if refused:
            title = f"Refused by {html.escape(condition)}"
            parts.append(f"<h3>{title}</h3>" + _figures(refused, "refused", pictures, column))
    return "\n".join(parts)


def _funnel(filters: Sequence[Sequence[Any]]) -> str:
    first = filters[0][2] if filters else 0
    lines = ["<table><tr><th>filter<th>in<th>kept<th>of these<th>of all<th></tr>"]
    for _, condition, reached, kept in filters:
        share, whole = kept / reached if reached else 0.0, kept / first if first else 0.0
        bar = f'<span class=bar><i style="width:{100 * whole:.1f}%"></i></span>'
        lines.append(
            f"<tr><td>{html.escape(condition)}<td>{reached}<td>{kept}<td>{share:.0%}<td>{whole:.0%}<td>{bar}</tr>"
        )
    return "".join(lines) + "</table>"


def _reaching(
    filters: Sequence[Sequence[Any]], rows: Sequence[Mapping[str, Any]], tier: str
) -> dict[str, list[Mapping[str, Any]]]:
    """Clips by the first filter of the tier that refuses them."""
    by_filter: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        refusals = json.loads(row["refusals"])
        if refusals.get(tier):
            by_filter.setdefault(refusals[tier], []).append(row)
    return by_filter


def _figures(rows: Sequence[Mapping[str, Any]], kind: str, pictures: _Pictures, column: str | None = None) -> str:
    step = max(len(rows) // SHOWN, 1)
    shown = rows[::step][:SHOWN]
    cells = []
    for row in shown:
        value = "" if column is None else f"<b>{column} {_written(row.get(column))}</b><br>"
        caption = f"{value}{html.escape(row['source'])} {row['start']:.2f}-{row['end']:.2f} s<br>"
        caption += f"<span class=small>{html.escape(row['camera'])}, motion {_written(row['motion'])}</span>"
        cells.append(f"<figure>{pictures.of(row)}<figcaption>{caption}</figcaption></figure>")
    more = f"<p class=small>{len(rows) - len(shown)} more</p>" if len(rows) > len(shown) else ""
    return f'<div class="clips {kind}">{"".join(cells)}</div>{more}'


def _written(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return "-" if value is None else html.escape(str(value))


def _distributions(rows: Sequence[Mapping[str, Any]]) -> str:
    """Percentiles of the scores, to choose thresholds by."""
    shares = (1, 5, 10, 25, 50, 75, 90, 95, 99)
    head = "".join(f"<th>{share} %" for share in shares)
    lines = [f"<h2>Scores of all clips</h2><table><tr><th>score{head}</tr>"]
    for name in SCORES:
        values = sorted(row[name] for row in rows if row[name] is not None)
        if values:
            cells = "".join(f"<td>{values[min(len(values) * share // 100, len(values) - 1)]:.3g}" for share in shares)
            lines.append(f"<tr><td>{name}{cells}</tr>")
    return "".join(lines) + "</table>"


def _refused(refused: Sequence[Mapping[str, Any]]) -> str:
    if not refused:
        return ""
    lines = [
        f"<tr><td>{html.escape(each['path'])}<td>{html.escape(each['detail'] or each['cause'])}" for each in refused
    ]
    return "<h2>Refused sources</h2><table>" + "".join(lines) + "</table>"
