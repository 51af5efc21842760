"""A study's results as one picture: net preferences, strengths, and the shares that were no loss, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hunyuan_video.files import staged_file
from hunyuan_video.lazy import optional_package

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_ROWS = 40  # of a panel; more would not be read


def plot(path: Path, result: Mapping[str, Any]) -> None:
    """Writes a PNG of what `analysis` returned. Raises UserError where matplotlib is not installed.

    Filled marks are the raters who are kept, hollow ones all raters, where somebody was left out. Bars are 95 %
    intervals; the population they speak of is written below.
    """
    drawing = optional_package("matplotlib.figure", "the plot", "scaling")
    views = {"kept": result["kept"]}
    if result["excluded"]:
        views["all"] = result["all"]
    panels = {
        "net preference, wins - losses": _rows(views, _nets),
        "strength (Davidson, logits)": _rows(views, _strengths),
        "share without loss": _rows(views, _shares),
    }
    rows = max(len(panel) for panel in panels.values())
    figure = drawing.Figure(figsize=(17, 2.2 + 0.26 * rows), layout="constrained")
    for axis, (title, panel) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        _dots(axis, title, panel)
    figure.supxlabel(caption(result), fontsize=9)
    with staged_file(path) as file:
        figure.savefig(file, dpi=100, format="png")


def caption(result: Mapping[str, Any]) -> str:
    """Lines below the picture: votes, who was left out by which rule, the population of the intervals."""
    kept, everyone, out = result["kept"], result["all"], result["excluded"]
    seen = f"{kept['votes']} votes of {kept['raters']} raters on {kept['prompts']} prompts"
    if out:
        seen += f" (filled); all: {everyone['votes']} votes of {everyone['raters']} raters (hollow)"
    return f"{seen}\n{result['rule']}: {', '.join(out) or 'nobody'}\n95 % intervals for {result['population']}"


def _nets(view: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
    return {f"{pair}, {name}": row["net"] for name, q in view["questions"].items() for pair, row in q["pairs"].items()}


def _strengths(view: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
    return {
        f"{system}, {name}": row
        for name, question in view["questions"].items()
        if question["davidson"]
        for system, row in question["davidson"]["strengths"].items()
    }


def _shares(view: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
    return {f"{system}, {name}": row for system, shares in view["table"].items() for name, row in shares.items()}


def _rows(views: Mapping[str, Any], of_view: Any) -> dict[str, dict[str, Mapping[str, float]]]:
    """Label -> {"kept": interval, "all": interval}, the first MOST_ROWS of them."""
    found: dict[str, dict[str, Mapping[str, float]]] = {}
    for name, view in views.items():
        for label, row in of_view(view).items():
            found.setdefault(label, {})[name] = row
    return dict(list(found.items())[:MOST_ROWS])


def _dots(axis: Axes, title: str, panel: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    for place, views in enumerate(panel.values()):
        for name, row in views.items():
            height = place + (0.18 if name == "all" else 0.0)
            error = [[row["value"] - row["low"]], [row["high"] - row["value"]]]
            face = "C0" if name == "kept" else "white"
            axis.errorbar(row["value"], height, xerr=error, fmt="o", color="C0", mfc=face, ms=5, lw=1.2, capsize=2)
    axis.set_yticks(range(len(panel)), list(panel), fontsize=8)
    axis.invert_yaxis()
    axis.set_title(title, fontsize=11)
    if not panel:
        axis.text(0.5, 0.5, "no numbers: see the report", ha="center", transform=axis.transAxes)
    elif not title.startswith("share"):
        axis.axvline(0, color="gray", lw=0.8)
    axis.grid(axis="x", alpha=0.3)
