"""The page at `/`: three files of this package, without a request to any other site."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from starlette.responses import FileResponse, Response

router = APIRouter(include_in_schema=False)
FOLDER = Path(__file__).with_name("page")
# Scripts and styles from this server alone; pictures and videos as it or the page itself made them.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob: data:; "
    "media-src 'self' blob:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def _file(name: str, kind: str) -> Response:
    return FileResponse(FOLDER / name, media_type=kind, headers=HEADERS)


@router.get("/")
async def page() -> Response:
    return _file("index.html", "text/html; charset=utf-8")


@router.get("/page.css")
async def style() -> Response:
    return _file("page.css", "text/css; charset=utf-8")


@router.get("/page.js")
async def script() -> Response:
    return _file("page.js", "text/javascript; charset=utf-8")
