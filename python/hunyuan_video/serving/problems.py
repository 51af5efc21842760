"""Errors of the API in the form that OpenAI's clients read: {"error": {message, type, param, code}}."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from hunyuan_video.errors import ArgumentError
from hunyuan_video.sampling.request import ARGUMENTS

log = logging.getLogger("hunyuan_video.serving")
TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error", 500: "server_error"}


class Problem(Exception):
    """A request that is refused. The text is one line for the caller."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: int | None = None,  # seconds
    ):
        super().__init__(message)
        self.status, self.message, self.code, self.param, self.retry_after = status, message, code, param, retry_after

    @classmethod
    def of_argument(cls, error: ArgumentError) -> Problem:
        """400 for an argument with a wrong value; such a message begins with the argument's name."""
        name = str(error).split(" ", 1)[0].rstrip(":")
        return cls(400, str(error), code="invalid_value", param=name if name in ARGUMENTS else None)

    def response(self) -> JSONResponse:
        headers = {} if self.retry_after is None else {"retry-after": str(self.retry_after)}
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        return JSONResponse(error_body(self.status, self.message, self.code, self.param), self.status, headers)


def error_body(status: int, message: str, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    """JSON of an error."""
    kind = TYPES.get(status, "server_error" if status > 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def not_here(video: str) -> Problem:
    """404 for a video that is not there, or is another key's."""
    return Problem(404, f"no video {video[:80]!r}", code="not_found", param="video_id")


def add_handlers(app: FastAPI) -> None:
    """Every failure of a route, expected or not, becomes an error of the API."""

    @app.exception_handler(Problem)
    async def problem(request: Request, error: Problem) -> JSONResponse:
        return error.response()

    @app.exception_handler(ArgumentError)
    async def argument(request: Request, error: ArgumentError) -> JSONResponse:
        return Problem.of_argument(error).response()

    @app.exception_handler(RequestValidationError)
    async def validation(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        param = str(first["loc"][-1]) if first.get("loc") else None
        return Problem(400, f"{param}: {first['msg']}", code="invalid_value", param=param).response()

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        texts = {404: "no such route; the videos API is at /v1/videos", 405: "this route does not take that method"}
        text = texts.get(error.status_code, str(error.detail))
        return JSONResponse(error_body(error.status_code, text), error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        log.error("failure of %s %s", request.method, request.url.path, exc_info=error)
        return JSONResponse(error_body(500, "the server failed on this request; its log says how"), 500)
