"""The study's application: the page, its tasks, its videos, its votes. No answer names a system."""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response

from hunyuan_video.evaluation.study.votes import ANSWERS, QUESTIONS
from hunyuan_video.serving.pages import HEADERS
from hunyuan_video.serving.study.begin import BLIND
from hunyuan_video.serving.study.store import Conflict, StudyStore

PAGE = Path(__file__).with_name("page")
KINDS = {
    "index.html": "text/html; charset=utf-8",
    "study.css": "text/css; charset=utf-8",
    "study.js": "text/javascript; charset=utf-8",
}
COOKIE = "rater"
LARGEST = 4096  # bytes of a vote
NO_LINK = "this link is unknown, was used or has expired; ask who invited you for a new one"
NO_SESSION = "open the link that you were sent; if it was used in another browser, ask for a new one"


def make_study_app(study: Path, store: StudyStore) -> FastAPI:
    """The ASGI application over a store that is filled. Votes are committed in the event loop, one after another."""
    app = FastAPI(title="study", docs_url=None, redoc_url=None, openapi_url=None)
    page_parts = {name: Response((PAGE / name).read_bytes(), 200, HEADERS, kind) for name, kind in KINDS.items()}

    def rater_of(request: Request) -> int | None:
        return store.rater_of(request.cookies.get(COOKIE, ""))

    @app.exception_handler(sqlite3.Error)
    async def unstored(request: Request, error: sqlite3.Error) -> Response:
        return _wrong(503, f"the store cannot be used now ({error}); nothing was stored, try again")

    @app.get("/i/{token}")
    async def enter(request: Request, token: str) -> Response:
        session = store.enter(token)
        if session is None:
            return RedirectResponse("/", 303) if rater_of(request) is not None else _wrong(410, NO_LINK)
        answer = RedirectResponse("/", 303, headers=HEADERS)  # the token leaves the address
        secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, session, max_age=90 * 86400, httponly=True, samesite="lax", secure=secure)
        return answer

    @app.get("/")
    async def page(request: Request) -> Response:
        if rater_of(request) is None:
            return Response(NO_SESSION, 401, HEADERS, "text/plain; charset=utf-8")
        return page_parts["index.html"]

    @app.get("/page/{name}")
    async def part(name: str) -> Response:
        return page_parts.get(name) or _wrong(404, "no such page")

    @app.get("/api/task")
    async def task(request: Request) -> Response:
        rater = rater_of(request)
        if rater is None:
            return _wrong(401, NO_SESSION)
        return JSONResponse(store.next_task(rater), headers={"cache-control": "no-store"})

    @app.get("/clips/{key}")
    async def clip(request: Request, key: str) -> Response:
        rater = rater_of(request)
        if rater is None:
            return _wrong(401, NO_SESSION)
        if not store.may_see(rater, key):
            return _wrong(404, "no such video")
        return FileResponse(study / BLIND / f"{key}.mp4", media_type="video/mp4", headers=HEADERS)

    @app.post("/api/votes")
    async def vote(request: Request) -> Response:
        rater = rater_of(request)
        if rater is None:
            return _wrong(401, NO_SESSION)
        if request.headers.get("content-type", "").partition(";")[0] != "application/json":
            return _wrong(415, "send application/json")  # which no form of another site can
        if int(request.headers.get("content-length") or LARGEST + 1) > LARGEST:
            return _wrong(413, f"a vote has at most {LARGEST} bytes")
        try:
            content = await request.json()
        except ValueError:
            return _wrong(400, "this is no JSON")
        checked = _checked(content)
        if isinstance(checked, str):
            return _wrong(400, checked)
        key, answers, seconds = checked
        try:
            new = store.vote(rater, key, answers, seconds)
        except KeyError:
            return _wrong(404, "no such task")
        except Conflict:
            return _wrong(409, "another vote is stored for this pair; it stays")
        return JSONResponse({"stored": True, "new": new})

    return app


def _checked(content: Any) -> tuple[str, dict[str, str], float] | str:
    """A vote's task, answers and seconds; or what is wrong with it."""
    if not isinstance(content, dict) or not isinstance(content.get("task"), str):
        return "a vote has a task"
    answers = {question: content.get(question) for question in QUESTIONS}
    if wrong := [name for name, answer in answers.items() if not isinstance(answer, str) or answer not in ANSWERS]:
        return f"{wrong[0]} must be left, same or right"
    seconds = content.get("seconds", 0.0)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < math.inf:
        return "seconds must be a number of at least 0"
    return content["task"], {name: str(answer) for name, answer in answers.items()}, float(seconds)


def _wrong(status: int, text: str) -> Response:
    return JSONResponse({"error": text}, status, headers={"cache-control": "no-store"})
