"""Structured captions from what was measured: the paper's JSON fields, those left out that no stage can tell."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

FIELDS = (
    "short description", "dense description", "background", "style", "shot type", "lighting", "atmosphere",
    "camera movement",
)  # fmt: skip
CERTAIN = 0.6  # of the camera's class: only sure ones are named, as in the paper
SLOW, FAST = 0.03, 0.3  # longer sides a second
DARK, DIM, BRIGHT = 0.15, 0.3, 0.65  # mean brightness
HIGH_CONTRAST = 0.25  # share of the picture in shadow or burnt out


def measured_caption(row: Mapping[str, Any], about: Mapping[str, str] | None = None) -> str:
    """The caption of a clip as JSON. about: what the source's manifest says of it; its caption is the description."""
    fields: dict[str, str] = {}
    if text := (about or {}).get("caption", "").strip():
        fields["short description"] = text
    fields["dense description"] = _dense(row, fields.get("short description", ""))
    if row.get("brightness") is not None:
        fields["lighting"] = _lighting(row)
    if row["kind"] == "video" and row["camera_score"] >= CERTAIN:
        fields["camera movement"] = row["camera"]
    return json.dumps(fields, ensure_ascii=False)


def _dense(row: Mapping[str, Any], description: str) -> str:
    what = f"{description.rstrip('.')}. " if description else ""
    if row["kind"] == "image":
        return f"{what}A picture."
    motion = row.get("motion")
    pace = (
        "" if motion is None else "almost still " if motion < SLOW else "fast " if motion > FAST else "calmly moving "
    )
    article = "An" if pace.startswith("a") else "A"
    text = f' The text "{row["text"]}" can be read.' if row.get("text") and row.get("text_left") else ""
    return f"{what}{article} {pace}shot of {row['seconds']:.1f} seconds.{text}"


def _lighting(row: Mapping[str, Any]) -> str:
    level = row["brightness"]
    words = (
        "dark" if level < DARK else "dim light" if level < DIM else "bright light" if level > BRIGHT else "even light"
    )
    hard = row["shadow"] > HIGH_CONTRAST and row["burnt"] > 0.02
    return f"{words} with deep shadows" if hard else words
