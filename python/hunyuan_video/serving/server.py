"""The server's process: uvicorn over a socket of ours, and an end that loses nothing."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from hunyuan_video.errors import UserError
from hunyuan_video.serving.app import make_app
from hunyuan_video.serving.config import ServerConfig
from hunyuan_video.serving.service import JobService

CLOSE_SECONDS = 3  # that open requests get at the end
BACKLOG = 2048


class SignaledServer(uvicorn.Server):
    """uvicorn that ends with the program's own exit code after SIGTERM and SIGINT, not by the signal."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def stop(self) -> None:
        """Begins the end: listeners are let go."""
        self.should_exit = True


class Server(SignaledServer):
    """The server of video jobs."""

    def __init__(self, settings: uvicorn.Config, service: JobService):
        super().__init__(settings)
        self.service = service
        self.stopping = False
        service.on_fatal = self.stop

    def stop(self) -> None:
        """Begins the end: no new jobs, listeners are let go; a second signal does not wait for open requests."""
        self.force_exit, self.stopping = self.stopping, True
        super().stop()
        self.service.draining = True
        self.service.hub.close()


def bound_socket(host: str, port: int) -> socket.socket:
    """A listening socket; UserError, one line, where the address is taken or not this machine's."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)  # asyncio sets TCP_NODELAY only where the protocol is named
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)  # who connects before the first answer waits
    except OSError as error:
        raise UserError(f"cannot listen on {host}:{port}: {error.strerror or error}; choose another --port") from error
    return listener


def address_of(host: str, listener: socket.socket) -> str:
    """The URL at which a bound socket answers; IPv6 addresses in brackets."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}"


def serve(config: ServerConfig, print_line: Callable[[str], None] = print) -> None:
    """Serves until SIGTERM or SIGINT. UserError for an address, folder or checkpoint that cannot be used."""
    listener = bound_socket(config.host, config.port)
    app = make_app(config)
    address = address_of(config.host, listener)
    print_line(f"hunyuan-video serves {config.model_id} at {address} (API: {address}/v1)")
    settings = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=CLOSE_SECONDS, server_header=False,
        ws_max_size=1 << 16, h11_max_incomplete_event_size=1 << 16,
    )  # fmt: skip
    service: JobService = app.state.service
    server = Server(settings, service)
    with listener:
        asyncio.run(server.serve(sockets=[listener]))
    if service.fatal is not None:
        raise UserError(service.fatal)
    if not server.started:
        raise UserError("the server could not start; the lines above say why")
