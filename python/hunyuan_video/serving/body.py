"""Bodies of requests: JSON or a form to plain values, and an uploaded picture to a checked PNG."""

from __future__ import annotations

import asyncio
import io
import json
import re
from typing import Any

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request

from hunyuan_video.errors import UserError
from hunyuan_video.serving.problems import Problem

MAX_FIELDS = 200
PICTURES = ("PNG", "JPEG", "WEBP")
ENTRY = re.compile(r"(\w+)\[\](?:\[(\w+)\])?")  # l[] and ld[][name], as OpenAI's client writes lists


async def read_body(request: Request) -> dict[str, Any]:
    """Values of a JSON object or of a form; lists of forms as lists. Problem for anything else."""
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind in ("multipart/form-data", "application/x-www-form-urlencoded"):
        try:
            form = await request.form(max_files=1, max_fields=MAX_FIELDS)
        except (HTTPException, MultiPartException) as error:
            raise Problem(
                400, f"the form cannot be read: {getattr(error, 'detail', error)}", code="bad_form"
            ) from error
        return _form_values(form.multi_items())
    if kind and kind != "application/json":
        text = f"content-type {kind[:80]!r} is not read here; send multipart/form-data or application/json"
        raise Problem(415, text, code="unsupported_media_type")
    return json_object(await request.body())


def json_object(body: bytes) -> dict[str, Any]:
    """A JSON object; {} for an empty body. Problem for anything else, numbers that JSON does not have, deep nesting."""

    def constant(name: str) -> Any:
        raise ValueError(f"{name} is no JSON number")

    try:
        content = json.loads(body, parse_constant=constant) if body.strip() else {}
    except (ValueError, RecursionError) as error:
        text = str(error) if isinstance(error, ValueError) else "it is nested too deeply"
        raise Problem(400, f"the body is not valid JSON: {text[:200]}", code="bad_json") from error
    if not isinstance(content, dict):
        raise Problem(400, "the body must be a JSON object", code="bad_json")
    return content


def _form_values(items: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in items:
        entry = ENTRY.fullmatch(name)
        if entry is None:
            values[name] = value
            continue
        listed = values.setdefault(entry[1], [])
        if not isinstance(listed, list):
            raise Problem(400, f"{entry[1]} is given as a value and as a list", code="bad_form", param=entry[1])
        if entry[2] is None:
            listed.append(value)
        elif listed and isinstance(listed[-1], dict) and entry[2] not in listed[-1]:
            listed[-1][entry[2]] = value
        else:
            listed.append({entry[2]: value})
    return values


async def read_picture(value: Any, megapixels: float) -> bytes | None:
    """An uploaded picture as PNG, upright, in sRGB; None where there is none.

    Problem unless it is a PNG, JPEG or WebP of at most so many megapixels, by its content; its name does not matter.
    """
    if value is None or value == "":
        return None
    if not isinstance(value, UploadFile):
        text = "input_reference must be a file of a multipart form"
        raise Problem(400, text, code="invalid_type", param="input_reference")
    content = await value.read()
    return await asyncio.to_thread(checked_picture, content, megapixels) if content else None


def checked_picture(content: bytes, megapixels: float) -> bytes:
    """The same for the bytes of a file."""
    from PIL import Image

    from hunyuan_video.media.images import read_image

    def refused(text: str) -> Problem:
        return Problem(400, f"input_reference: {text}", code="invalid_image", param="input_reference")

    try:
        with Image.open(io.BytesIO(content), formats=PICTURES) as picture:
            width, height = picture.size
            if width * height > megapixels * 1e6:
                raise refused(f"{width}x{height} pixels are more than {megapixels:g} megapixels")
            upright = read_image(picture)
    except Problem:
        raise
    except UserError as error:
        raise refused(str(error)) from error
    except Exception as error:  # decoders of damaged files raise anything
        raise refused("no PNG, JPEG or WebP picture, or damaged") from error
    file = io.BytesIO()
    upright.save(file, "PNG")
    return file.getvalue()
