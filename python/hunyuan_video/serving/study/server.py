"""The study's process: a store that is filled once, links for the raters, uvicorn until a signal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import uvicorn

from hunyuan_video.errors import UserError
from hunyuan_video.files import staged_file
from hunyuan_video.serving.server import SignaledServer, address_of, bound_socket
from hunyuan_video.serving.study.app import make_study_app
from hunyuan_video.serving.study.begin import begin_study
from hunyuan_video.serving.study.store import StudyStore
from hunyuan_video.writers import one_writer

LINKS_FILE = "invitations.txt"


def serve_study(
    study: Path,
    print_line: Callable[[str], None],
    *,
    host: str,
    port: int,
    raters: int,
    votes: int,
    checks: int,
    days: float,
    most: int | None = None,
    invite: tuple[str, ...] = (),
    address: str | None = None,
) -> None:
    """Serves a study until SIGTERM or SIGINT. A new one is filled first, with links for all raters.

    invite: raters of a study that is there, who get new links. address: that the links begin with. Links are in
    invitations.txt, for the owner's eyes. Raises UserError.
    """
    if not study.is_dir():
        raise UserError(f"{study}: no such folder; make a study with eval generate")
    with one_writer(study, "serves", part="-serve"):
        store = StudyStore(study)
        try:
            with bound_socket(host, port) as listener:
                if store.is_new:
                    begin_study(study, store, raters, votes, checks, most)
                    invite = tuple(store.raters())
                address = address or address_of(host, listener)
                if invite:
                    lines = [f"{rater} {address}/i/{store.invite(rater, days)}" for rater in invite]
                    _write_links(study / LINKS_FILE, lines)
                    print_line(f"{len(invite)} links, each for one browser: {study / LINKS_FILE}")
                print_line(f"the study {study} is at {address}")
                settings = uvicorn.Config(
                    make_study_app(study, store), log_level="warning", access_log=False, server_header=False
                )
                asyncio.run(SignaledServer(settings).serve(sockets=[listener]))
        finally:
            store.close()


def _write_links(path: Path, lines: list[str]) -> None:
    with staged_file(path) as file:
        Path(file.name).chmod(0o600)
        file.write(("\n".join(lines) + "\n").encode())
