"""The door: what every request passes before a route sees it. Plain ASGI, so that routes notice when clients leave.

A request gets an id; its body is counted; where keys are set it needs one; where none is, it must be addressed to this
machine by its name and come from no page of another site (a browser would carry one's requests to a loopback address).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders

from hunyuan_video.serving.config import ServerConfig, is_loopback
from hunyuan_video.serving.metrics import Metrics
from hunyuan_video.serving.problems import Problem

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]
OPEN = ("/health", "/", "/page.css", "/page.js")  # without a key
FORM_OVERHEAD = 1 << 20  # bytes of a form besides its file
VIOLATION = 1008  # WebSocket close code


class Guard:
    """ASGI middleware. Sets scope["state"]["owner"]: which key the request has, "" where none is needed."""

    def __init__(self, app: App, config: ServerConfig, metrics: Metrics):
        self.app, self.config, self.metrics = app, config, metrics
        self.digests = [hashlib.sha256(key.encode()).digest() for key in config.api_keys]
        self.limit = int(config.max_upload_mb * 1e6) + FORM_OVERHEAD

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers, began = Headers(scope=scope), time.monotonic()
        request_id = f"req_{secrets.token_hex(12)}"

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["x-request-id"] = request_id
                status = str(message["status"])
                self.metrics.requests.labels(_method(scope), status).observe(time.monotonic() - began)
            await send(message)

        try:
            scope.setdefault("state", {})["owner"] = self._owner(scope["path"], headers)
            if scope["type"] == "http":
                receive = self._counted(headers, receive)
        except Problem as problem:
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": VIOLATION, "reason": problem.message})
            else:
                await problem.response()(scope, receive, answer)
            return
        try:
            await self.app(scope, receive, answer)
        except _TooLarge as error:
            await error.problem.response()(scope, receive, answer)

    def _owner(self, path: str, headers: Headers) -> str:
        if not self.digests:
            self._check_origin(headers)
            return ""
        if path in OPEN:
            return ""
        scheme, _, key = headers.get("authorization", "").partition(" ")
        digest = hashlib.sha256(key.strip().encode("utf-8", "replace")).digest()
        matches = [hmac.compare_digest(digest, known) for known in self.digests]  # all of them, whichever matches
        if scheme.lower() != "bearer" or not any(matches):
            raise Problem(401, "a valid API key is needed: Authorization: Bearer KEY", code="invalid_api_key")
        return digest.hex()[:16]

    def _check_origin(self, headers: Headers) -> None:
        host = headers.get("host", "")
        name = urlsplit(f"//{host}").hostname or "" if host.isprintable() else ""
        if not is_loopback(name) and name != self.config.host:
            raise Problem(403, "a server without a key answers to the names of this machine only", code="wrong_host")
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            raise Problem(403, "a server without a key takes no requests of other sites' pages", code="wrong_origin")

    def _counted(self, headers: Headers, receive: Receive) -> Receive:
        """The request's body, refused when it is longer than the limit."""
        declared = headers.get("content-length", "0")
        if not declared.isascii() or not declared.isdigit() or int(declared[:20]) > self.limit:
            raise self._too_large()
        read = 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self.limit:
                raise _TooLarge(self._too_large())
            return message

        return counted

    def _too_large(self) -> Problem:
        return Problem(413, f"the request is larger than {self.config.max_upload_mb:g} MB", code="too_large")


class _TooLarge(Exception):
    """Passes through a route's reading of the body."""

    def __init__(self, problem: Problem):
        super().__init__(problem.message)
        self.problem = problem


def _method(scope: MutableMapping[str, Any]) -> str:
    return scope["method"] if scope["method"] in ("GET", "POST", "DELETE", "HEAD", "OPTIONS") else "other"
