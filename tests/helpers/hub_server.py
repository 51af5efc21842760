"""A small stand-in for the Hugging Face hub: one repository, its files in ranges, and connections that break."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubServer(ThreadingHTTPServer):
    """Serves `folder` as repository `name`. requests: (method, path, range). cut: {file: bytes} to break off after."""

    def __init__(self, folder: Path, name: str):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.name = folder, name
        self.requests: list[tuple[str, str, str]] = []
        self.cut: dict[str, int] = {}
        self.sizes: dict[str, int] = {}  # that are listed in the place of the real ones

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def files(self) -> dict[str, Path]:
        return {str(p.relative_to(self.folder)): p for p in sorted(self.folder.rglob("*")) if p.is_file()}

    def fetched(self) -> list[str]:
        """Paths of the files of which bytes were asked for."""
        return [path.split("/resolve/")[1].partition("/")[2] for method, path, _ in self.requests
                if method == "GET" and "/resolve/" in path]  # fmt: skip

    def handle_error(self, request, client_address) -> None:
        """Silent: clients that go away are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    server: HubServer

    def log_message(self, *arguments) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = self.path.partition("?")[0]
        self.server.requests.append((self.command, path, self.headers.get("Range", "")))
        name = re.escape(self.server.name)
        if match := re.fullmatch(rf"/api/models/{name}(?:/revision/(.+))?", path):
            return self._list(match[1])
        if match := re.fullmatch(rf"/{name}/resolve/([^/]+)/(.+)", path):
            return self._file(match[2], body)
        if path.startswith(("/api/models/closed/", "/closed/")):
            return self._fail(403, "GatedRepo")
        return self._fail(404, "RepoNotFound")

    def _list(self, revision: str | None) -> None:
        if revision not in (None, "main", "v1", COMMIT):
            return self._fail(404, "RevisionNotFound")
        siblings = [{"rfilename": name, "size": self.server.sizes.get(name, path.stat().st_size)}
                    for name, path in self.server.files().items()]  # fmt: skip
        self._send(200, json.dumps({"id": self.server.name, "sha": COMMIT, "siblings": siblings}).encode(), {})

    def _file(self, name: str, body: bool) -> None:
        path = self.server.files().get(name)
        if path is None:
            return self._fail(404, "EntryNotFound")
        content = path.read_bytes()
        start = int((re.match(r"bytes=(\d+)-", self.headers.get("Range", "")) or [0, "0"])[1])
        etag = hashlib.sha256(content).hexdigest()
        head = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if start:
            head["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        sent = content[start:]
        cut = self.server.cut.pop(name, None) if body else None
        self._send(206 if start else 200, sent if body else b"", head, length=len(sent), cut=cut)

    def _fail(self, code: int, kind: str) -> None:
        self._send(code, b"{}", {"X-Error-Code": kind})

    def _send(self, code: int, content: bytes, head: dict[str, str], length: int | None = None, cut=None) -> None:
        self.send_response(code)
        for key, value in head.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        self.wfile.write(content if cut is None else content[:cut])
        if cut is not None:
            self.wfile.flush()
            self.connection.close()


@contextmanager
def hub_server(folder: Path, name: str) -> Iterator[HubServer]:
    server = HubServer(folder, name)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
