"""A server for the tests that only talk to it, and the checkpoint behind it."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

PACKAGES = ("fastapi", "uvicorn", "multipart", "websockets", "prometheus_client", "httpx", "openai")
collect_ignore_glob = [] if all(find_spec(name) for name in PACKAGES) else ["test_*.py"]  # the extra is not installed


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """Folder of a random checkpoint (4 steps, CFG 3, 32x48, 5 frames)."""
    from helpers.random_checkpoint import write_random_checkpoint

    return write_random_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="session")
def server(tmp_path_factory, checkpoint):
    """A server without keys that several tests share."""
    from helpers.video_server import VideoServer

    server = VideoServer(tmp_path_factory.mktemp("serve") / "data", checkpoint)
    yield server
    assert server.stop() == 0, server.logged()
    assert "Traceback" not in server.logged()


@pytest.fixture
def start(tmp_path, checkpoint):
    """`start(*options)`: a server of the test's own, which does not outlive it."""
    from helpers.video_server import VideoServer

    started = []

    def make(*options, **named):
        started.append(VideoServer(tmp_path / "data", checkpoint, *options, **named))
        return started[-1]

    yield make
    for server in started:
        server.kill()
