"""The part of a picture that is kept, as shares of its sides."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Crop:
    """x, y of the upper left corner, width and height, each 0..1 of the picture's side."""

    x: float = 0.0
    y: float = 0.0
    width: float = 1.0
    height: float = 1.0

    @property
    def area(self) -> float:
        return self.width * self.height

    @classmethod
    def of_edges(cls, left: float, top: float, right: float, bottom: float) -> Crop:
        return cls(left, top, max(right - left, 0.0), max(bottom - top, 0.0))

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def bottom(self) -> float:
        return self.y + self.height

    def within(self, other: Crop) -> Crop:
        """The part of both."""
        return Crop.of_edges(
            max(self.x, other.x), max(self.y, other.y), min(self.right, other.right), min(self.bottom, other.bottom)
        )

    def pixels(self, height: int, width: int) -> tuple[int, int, int, int]:
        """x, y, width, height in pixels of a picture of this size, with even sides where they are cut."""
        x, y = round(self.x * width), round(self.y * height)
        w, h = min(round(self.right * width), width) - x, min(round(self.bottom * height), height) - y
        if (w, h) != (width, height):
            w, h = w - w % 2, h - h % 2
        return x, y, max(w, 1), max(h, 1)
