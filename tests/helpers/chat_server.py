"""A stand-in for an OpenAI-compatible server of a vision-language model: it answers as a script says."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeAlias

Answer: TypeAlias = "str | tuple[int, dict[str, str], str]"  # text of a completion; (status, headers, body); "" hangs


class ChatServer(ThreadingHTTPServer):
    """answer(number, request): what the request gets, counted from 0. requests: their bodies."""

    daemon_threads = True

    def __init__(self, answer: Callable[[int, dict[str, Any]], Answer]):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.guard = threading.Lock()
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request, client_address) -> None:
        """Silent: clients that go away are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    server: ChatServer

    def log_message(self, *arguments) -> None:
        pass

    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.guard:
            number = len(server.requests)
            server.requests.append({"path": self.path, **body})
            server.keys.append(self.headers.get("Authorization", ""))
        answer = server.answer(number, body)
        if answer == "":
            server.released.wait(30)
            return
        if isinstance(answer, str):
            answer = 200, {}, json.dumps({"choices": [{"message": {"role": "assistant", "content": answer}}]})
        status, headers, text = answer
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(text.encode()))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())


@contextmanager
def chat_server(answer: Callable[[int, dict[str, Any]], Answer]) -> Iterator[ChatServer]:
    server = ChatServer(answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
