"""Prompt honesty: one line for a person whenever a text encoder did not read all of a prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hunyuan_video.models.text.tokens import TokenReport

TokenReports = Mapping[str, Sequence[TokenReport]]
"""Encoder name ("text_encoder", "clip_text_encoder") -> one report per prompt."""

_NAMES = {"text_encoder": "the text encoder", "clip_text_encoder": "CLIP"}
MOST = 0.75


def dropped_lines(tokens: TokenReports) -> list[str]:
    """One line per prompt and encoder that lost words; empty when every word was read."""
    lines = []
    for encoder, reports in tokens.items():
        for number, report in enumerate(reports, 1):
            if report.dropped:
                which = f"prompt {number}: " if len(reports) > 1 else ""
                lost = shortened(report.dropped)
                lines.append(f"{which}{_NAMES[encoder]} reads {report.limit} tokens and did not see: {lost!r}")
    return lines


def mostly_dropped(tokens: TokenReports, prompts: Sequence[str]) -> str | None:
    """The first prompt of which the text encoder would lose more than three quarters (a paste accident), else None."""
    for prompt, report in zip(prompts, tokens.get("text_encoder", ()), strict=False):
        if len(report.dropped) > MOST * len(prompt):
            return prompt
    return None


def tokens_as_json(tokens: TokenReports) -> dict[str, list[dict[str, Any]]]:
    return {name: [vars(report).copy() for report in reports] for name, reports in tokens.items()}


def tokens_from_json(values: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, list[TokenReport]]:
    return {name: [TokenReport(**report) for report in reports] for name, reports in values.items()}


def shortened(text: str, limit: int = 60) -> str:
    """Text on one line, its end replaced by "..." beyond `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 3] + "..."
