"""The whole report of a machine, in Markdown: what it is, the targets, and every table."""

from __future__ import annotations

from typing import Any

from benchmarks.results import PLAIN, Measurement, comparison, everything, measurements_of, same_allocator
from benchmarks.targets import verdicts

Results = dict[str, Any]


def tables(results: Results, kernels: Results | None = None) -> str:
    """The whole report in Markdown. kernels: the section of the kernel suite."""
    sections = {**({} if kernels is None else {"operations": kernels}), **results["sections"]}
    groups = _groups(results, kernels)
    everyone = [one for found in groups.values() for one in found]
    parts = [_machine(results["machine"], sections), targets(results, kernels).strip()]
    parts += [f"## {title}\n\n{comparison(found)}" for title, found in groups.items() if found]
    if any(one.allocator != PLAIN for one in everyone):
        parts.append("## Both sides with the same allocator\n\n" + same_allocator(everyone))
    parts.append("## Every contender\n\n" + everything(everyone))
    return "\n\n".join(parts) + "\n"


def targets(results: Results, kernels: Results | None = None) -> str:
    """Every target and whether it is met, in Markdown."""
    return "## Targets\n\n" + verdicts([one for found in _groups(results, kernels).values() for one in found]) + "\n"


def _groups(results: Results, kernels: Results | None) -> dict[str, list[Measurement]]:
    measured = [one for section in results["sections"].values() for one in measurements_of(section)]
    return {
        "Operations": [] if kernels is None else measurements_of(kernels),
        "Blocks, models, pipeline, start": [one for one in measured if one.unit == "s"],
        "Peak memory above the imported libraries, weights included": [one for one in measured if one.unit == "bytes"],
    }


def _machine(facts: dict[str, Any], sections: dict[str, Any]) -> str:
    lines = ["# Benchmark results", ""]
    if facts:
        libraries = ", ".join(f"{name} {number}" for name, number in facts["libraries"].items() if number)
        made_on = (
            f"{facts['cpu']}, {facts['cores']} cores ({', '.join(facts['instructions'])}), {facts['memory_gb']} GB"
        )
        software = f"{facts['system']}, Python {facts['python']}, {libraries}"
        settings = f"{facts['torch_threads']} threads, transparent huge pages: {facts['huge_pages']}"
        lines += [f"{made_on}; {software}; {settings}; kernels of this package: {facts['kernels']}.", ""]
    lines.append(
        "Median and (minimum). Ratio: peer / ours, above 1 is better for this package; where both ran in turn in one "
        "process, that of this race, though the table may show this package's time of another part."
    )
    lines += [
        "",
        "| measured | date | commit | load before, after | processors used by others |",
        "|---|---|---|---|---|",
    ]
    for name, one in sections.items():
        loads, others = f"{one['load_before']}, {one['load_after']}", one.get("others")
        shown = "not known" if others is None else f"{others:.0%}"
        lines.append(f"| {name} | {one['date']} | {one['commit']} | {loads} | {shown} |")
    return "\n".join(lines)
