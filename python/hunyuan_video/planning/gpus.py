"""GPUs that plans are made for: their data sheets, and rates that were measured on one (rates/*.json)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hunyuan_video.errors import ArgumentError

RATES = Path(__file__).with_name("rates")


@dataclass(frozen=True)
class Card:
    """One GPU. bf16: dense peak in TFLOP/s; memory: 10^9 bytes; bandwidth: of the memory, TB/s; capability: of its
    instruction set.
    """

    bf16: float
    memory: float
    bandwidth: float
    capability: tuple[int, int]

    @property
    def fp8(self) -> bool:
        """True if kernels of this package multiply FP8 there."""
        return self.capability in ((8, 9), (9, 0))


# From the vendors' data sheets.
CARDS = {
    "A100": Card(312, 80, 2.04, (8, 0)),
    "H20": Card(148, 96, 4.0, (9, 0)),
    "H100": Card(989, 80, 3.35, (9, 0)),
    "H200": Card(989, 141, 4.8, (9, 0)),
    "B200": Card(2250, 180, 8.0, (10, 0)),
    "L40S": Card(362, 48, 0.86, (8, 9)),
    "RTX3060": Card(51, 12, 0.36, (8, 6)),
    "RTX3090": Card(71, 24, 0.94, (8, 6)),
    "RTX4060Ti": Card(88, 16, 0.29, (8, 9)),
    "RTX4090": Card(165, 24, 1.01, (8, 9)),
    "RTX5090": Card(209, 32, 1.79, (12, 0)),
}


@dataclass(frozen=True)
class Rates:
    """TFLOP/s of attention and of products by precision; seconds of the VAE for 10^9 output pixels.

    source: where they come from, one line.
    """

    attention: dict[str, float]
    products: dict[str, float]
    tiled: float
    exact: float
    source: str


def card_of(name: str) -> tuple[str, Card]:
    """A card by its name in any spelling ("h200", "NVIDIA H200", "RTX 4090"); ArgumentError for one not in the list."""
    plain = name.upper().replace(" ", "").replace("-", "").replace("GEFORCE", "").removeprefix("NVIDIA")
    for known in sorted(CARDS, key=len, reverse=True):
        if plain.startswith(known.upper()):
            return known, CARDS[known]
    raise ArgumentError(f"--gpu must be one of {', '.join(CARDS)}, got {name!r}")


@cache
def measured() -> dict[str, dict[str, Any]]:
    """Rates by card, from the files beside this one."""
    return {path.stem.upper(): json.loads(path.read_text()) for path in sorted(RATES.glob("*.json"))}


def rates_of(name: str) -> Rates | None:
    """Measured rates of a card, else those of a measured one times the quotient of their peaks; None for no known card.

    Reading and writing of memory is a small part of a step, so products decide; the VAE goes by bandwidth.
    """
    if name not in CARDS:
        return None
    files = measured()
    near = name if name in files else "H200"
    values, card, other = files[near], CARDS[name], CARDS[near]
    compute, memory = card.bf16 / other.bf16, card.bandwidth / other.bandwidth
    source = f"measured on {near} at {values['commit']}"
    if near != name:
        source = f"not measured on {name}: those of {near} times {compute:.2f} (peak of products, data sheets)"

    def scaled(table: dict[str, float]) -> dict[str, float]:
        return {key: value * compute for key, value in table.items()}

    vae = {key: values["vae_seconds"][key] / min(compute, memory) for key in ("tiled", "exact")}
    return Rates(scaled(values["attention"]), scaled(values["products"]), source=source, **vae)
