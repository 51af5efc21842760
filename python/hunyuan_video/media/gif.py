"""The outer structure of GIF files, to tell whole ones from those that were cut off: decoders show what is there."""

from __future__ import annotations

IMAGE, EXTENSION, TRAILER = 0x2C, 0x21, 0x3B


def is_whole(data: bytes) -> bool:
    """True if the blocks of a GIF lead to its trailer."""
    if len(data) < 13:
        return False
    at = 13 + _table(data[10])
    while at < len(data):
        kind = data[at]
        if kind == TRAILER:
            return True
        if kind == IMAGE and at + 9 < len(data):
            at = _after_blocks(data, at + 11 + _table(data[at + 9]))  # 10 bytes and the size of codes
        elif kind == EXTENSION:
            at = _after_blocks(data, at + 2)
        else:
            return False
    return False


def _table(flags: int) -> int:
    """Bytes of the color table that the flags announce."""
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _after_blocks(data: bytes, at: int) -> int:
    while at < len(data) and data[at]:
        at += data[at] + 1
    return at + 1
