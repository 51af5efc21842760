"""Damage to files: of their bytes, and of what they mean, with checksums made right again so that readers go on."""

from __future__ import annotations

import io
import json
import random
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import PurePath
from typing import Any

import yaml

VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 7, 255, 2**31, 2**63, 10**30, -(10**30), 0.5, -0.0, 1e308, float("nan"),
    float("inf"), "", "x", "tiny", "0", "../..", "a" * 300, "\ud800", "\0", "ä\u2028", [], [0], [[]], {}, {"x": 1},
    [None] * 3, [-1, -1], list(range(50)),
)  # fmt: skip
WORDS = (b"\0", b"\xff" * 4, b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\0\0\0\0\0\0\0\0", b"\xff" * 8, b"%s%n", b"\r\n")


def mutated(name: str, content: bytes, rng: random.Random) -> bytes:
    """Another content for a file of that name; with one or a few changes."""
    ways: list[Callable[[bytes, random.Random], bytes]] = [bytes_changed]
    ways += [WAYS[suffix] for suffix in [PurePath(name).suffix] if suffix in WAYS] * 2
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        way = rng.choice(ways)
        try:
            content = way(content, rng)
        except (ValueError, KeyError, IndexError, OSError, RecursionError, struct.error, tarfile.TarError,
                zipfile.BadZipFile, zlib.error, yaml.YAMLError, UnicodeError, AttributeError):  # fmt: skip
            content = bytes_changed(content, rng)  # an earlier change has destroyed the structure
    return content


def bytes_changed(content: bytes, rng: random.Random) -> bytes:
    """One change that knows nothing of the format; the head of a file, where structure is, is likelier."""
    size = len(content)
    start = rng.randrange(min(size, rng.choice((64, 512, 4096, size))) or 1) if size else 0
    length = min(rng.choice((1, 2, 4, 8, 64, 1024)), size - start)
    piece = content[start : start + length]
    other = rng.randrange(size or 1)
    new = rng.choice(
        (
            lambda: content[:start],
            lambda: b"",
            lambda: content[:start] + content[start + length :],
            lambda: content[:start] + piece + content[start:],
            lambda: content[:start] + rng.randbytes(length) + content[start + length :],
            lambda: content[:start] + bytes(length) + content[start + length :],
            lambda: content[:start] + bytes(b ^ (1 << rng.randrange(8)) for b in piece) + content[start + length :],
            lambda: content[:start] + (word := rng.choice(WORDS)) + content[start + len(word) :],
            lambda: content[:start] + rng.choice(WORDS) + content[start:],
            lambda: content[:start] + content[other : other + length] + content[start + length :],
            lambda: content + rng.randbytes(length),
            lambda: content + content,
        )
    )()
    return new[: 4 * size + 4096]


def value_changed(content: Any, rng: random.Random) -> Any:
    """A JSON-like value with one entry replaced, removed, renamed, repeated or moved."""
    places = list(_places(content))
    if not places:
        return rng.choice(VALUES)
    holder, key = rng.choice(places)
    way = rng.randrange(6)
    if way < 3:
        holder[key] = rng.choice(VALUES)
    elif way == 3:
        del holder[key]
    elif way == 4 and isinstance(holder, dict):
        holder[rng.choice(("x", "", f"{key}s", "type", "dtype"))] = holder.pop(key)
    else:
        other, place = rng.choice(places)
        holder[key] = json.loads(json.dumps(other[place])) if other is not holder else [holder[key]]
    return content


def _places(content: Any) -> Any:
    """(container, key or index) of every entry at every depth; of long lists (a vocabulary) some."""
    entries = list(content.items()) if isinstance(content, dict) else []
    entries = list(enumerate(content)) if isinstance(content, list) else entries
    for key, value in entries[:60]:
        yield content, key
        if isinstance(value, (dict, list)):
            yield from _places(value)


def json_changed(content: bytes, rng: random.Random) -> bytes:
    return json.dumps(value_changed(json.loads(content), rng)).encode()


def jsonl_changed(content: bytes, rng: random.Random) -> bytes:
    lines = content.split(b"\n")
    number = rng.randrange(len(lines))
    lines[number] = json_changed(lines[number], rng) if lines[number].startswith(b"{") else lines[number - 1]
    return b"\n".join(lines)


def yaml_changed(content: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.2:
        word = rng.choice((b"&a [*a, *a]", b"!!python/object/apply:os.getcwd []", b"{", b"- - -", b"\t", b"!!binary x"))
        return content.replace(b": ", b": " + word + b" ", 1)
    return yaml.safe_dump(value_changed(yaml.safe_load(content), rng), sort_keys=False).encode("utf-8", "surrogatepass")


def safetensors_changed(content: bytes, rng: random.Random) -> bytes:
    """Header or metadata changed, its length right; or numbers of a tensor."""
    length = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    if rng.random() < 0.2:
        word = rng.choice((b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\xff\xff\x7f\x7f", b"\0\0\0\0")) * 64
        place = rng.randrange(len(data)) & ~7
        return content[: 8 + length] + data[:place] + word + data[place + len(word) :]
    metadata = header.get("__metadata__", {})
    coded = [key for key, value in metadata.items() if value.startswith("{")]
    if coded and rng.random() < 0.6:
        key = rng.choice(coded)
        metadata[key] = json.dumps(value_changed(json.loads(metadata[key]), rng))
    else:
        header = value_changed(header, rng)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def zip_changed(content: bytes, rng: random.Random) -> bytes:
    """A .pt file: one member changed or gone, sums right."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(result, "w") as new:
        names = old.namelist()
        chosen = rng.choice([name for name in names if name.endswith(".pkl")] + names[:3])
        for name in names:
            inside = old.read(name)
            if name != chosen:
                new.writestr(name, inside)
            elif rng.random() < 0.9:
                new.writestr(name, bytes_changed(inside, rng))
    return result.getvalue()


def tar_changed(content: bytes, rng: random.Random) -> bytes:
    """One member changed, renamed, repeated or gone, with a right header."""
    result = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(content)) as old, tarfile.open(fileobj=result, mode="w") as new:
        members = old.getmembers()
        chosen, way = rng.randrange(len(members)), rng.randrange(5)
        for number, member in enumerate(members):
            file = old.extractfile(member)
            inside = file.read() if file else b""
            if number == chosen:
                if way == 0:
                    continue
                if way == 1:
                    member.name = rng.choice(("../x.safetensors", "/x.safetensors", "x", ".x.safetensors", "a/" * 50))
                elif way == 2:
                    new.addfile(member, io.BytesIO(inside))
                else:
                    inside = mutated(member.name, inside, rng)
                member.size = len(inside)
            new.addfile(member, io.BytesIO(inside))
    return result.getvalue()


def png_changed(content: bytes, rng: random.Random) -> bytes:
    """One chunk changed, repeated, moved or gone, its checksum right."""
    chunks, place = [], 8
    while place + 12 <= len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        chunks.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + length]))
        place += 12 + length
    number, way = rng.randrange(len(chunks)), rng.randrange(6)
    kind, data = chunks[number]
    if way == 0:
        del chunks[number]
    elif way == 1:
        chunks.insert(rng.randrange(len(chunks)), chunks[number])
    elif way == 2:
        chunks[number] = (rng.choice((b"tEXt", b"zTXt", b"iTXt", b"acTL", b"fcTL", b"IDAT", b"IEND")), data)
    else:
        chunks[number] = (kind, bytes_changed(data, rng))
    parts = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks]
    return content[:8] + b"".join(parts)


def mp4_changed(content: bytes, rng: random.Random) -> bytes:
    """Bytes of the tables (moov), which say where and when everything is."""
    start = content.index(b"moov")
    size = int.from_bytes(content[start - 4 : start], "big")
    moov = content[start : start + size - 4]
    return (
        content[:start] + bytes_changed(moov, rng)[: len(moov)].ljust(len(moov), b"\0") + content[start + len(moov) :]
    )


WAYS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    ".json": json_changed, ".jsonl": jsonl_changed, ".yaml": yaml_changed, ".safetensors": safetensors_changed,
    ".pt": zip_changed, ".tar": tar_changed, ".png": png_changed, ".apng": png_changed, ".mp4": mp4_changed,
}  # fmt: skip
