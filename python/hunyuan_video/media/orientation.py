"""Pictures turned and mirrored the way players show them: display matrices of videos, EXIF orientation of images."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Orientation:
    """One of the eight ways to lay a picture down: rows and columns exchanged first, then mirrored."""

    transposed: bool = False
    mirrored: bool = False  # left to right
    flipped: bool = False  # top to bottom

    def apply(self, picture: np.ndarray) -> np.ndarray:  # [H, W, C] -> [H, W, C] or [W, H, C], a view
        if self.transposed:
            picture = picture.swapaxes(0, 1)
        return picture[:: -1 if self.flipped else 1, :: -1 if self.mirrored else 1]

    def size(self, height: int, width: int) -> tuple[int, int]:
        """The height and width on screen of a picture that is stored with these."""
        return (width, height) if self.transposed else (height, width)


EXIF = {  # value of EXIF's tag 0x0112
    1: Orientation(),
    2: Orientation(mirrored=True),
    3: Orientation(mirrored=True, flipped=True),
    4: Orientation(flipped=True),
    5: Orientation(transposed=True),
    6: Orientation(transposed=True, mirrored=True),  # a quarter turn clockwise
    7: Orientation(transposed=True, mirrored=True, flipped=True),
    8: Orientation(transposed=True, flipped=True),
}


def of_matrix(data: bytes) -> Orientation:
    """From a display matrix: nine int32 of the machine's byte order, (x, y) -> (a x + c y, b x + d y).

    ValueError for a turn that is not a multiple of 90 degrees.
    """
    a, b, _, c, d, *_ = struct.unpack("=9i", data)
    straight, turned = max(abs(a), abs(d)), max(abs(b), abs(c))
    if not straight and not turned:
        return Orientation()
    if min(straight, turned) > 0.01 * max(straight, turned):
        raise ValueError("it is turned by an angle that is no multiple of 90 degrees; turn and save it first")
    if straight > turned:
        return Orientation(mirrored=a < 0, flipped=d < 0)
    return Orientation(transposed=True, mirrored=c < 0, flipped=b < 0)
