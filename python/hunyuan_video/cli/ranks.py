"""A command on several ranks, as `torchrun` starts them: one of them speaks, and a lost one ends all with one line."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TextIO

from hunyuan_video import __version__
from hunyuan_video.errors import UserError

if TYPE_CHECKING:
    import argparse

    from hunyuan_video.distributed.team import Team

SAME = "start all ranks with the same command and the same installation"
GONE = "another rank was lost, or torchrun was stopped"
_LAST = threading.Lock()  # held while the last line is printed: the thread that ends the process waits
SILENT = ("run", "debug")  # entries of a command line that are no arguments


def on_several_ranks() -> bool:
    """True in a process that torchrun started beside others."""
    return rank_count() > 1


def rank_count() -> int:
    """Processes of the job of torchrun that this one belongs to, 1 where it does to none."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def speaks() -> bool:
    """True for the first rank that has something to say about the end of the job: one line is enough.

    A store of torchrun's, which outlives the ranks, counts them. Without it the rank 0 speaks.
    """
    if not on_several_ranks():
        return True
    import torch.distributed as dist

    try:
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = dist.TCPStore(host, port, is_master=False, timeout=timedelta(seconds=10))
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        return store.add(f"hunyuan_video spoke {attempt}", 1) == 1
    except (RuntimeError, KeyError, ValueError):
        return os.environ.get("RANK", "0") == "0"


def say_last(text: str, stream: TextIO) -> None:
    """Prints the line that a command ends with, where none of the ranks has."""
    with _LAST:
        if speaks():
            print(text, file=stream, flush=True)


def join(args: argparse.Namespace, device: Any) -> Team | None:
    """The team of this process; None where it is alone. UserError where ranks differ in arguments or versions."""
    if not on_several_ranks():
        return None
    import torch

    from hunyuan_video.distributed.team import join_team

    team = join_team(device.type)
    if team is not None:
        arguments = {name: value for name, value in vars(args).items() if name not in SILENT}
        versions = {"version": __version__, "torch": torch.__version__, "threads": torch.get_num_threads()}
        team.check_same({**versions, **arguments}, SAME)
    return team


@contextlib.contextmanager
def one_voice(command: str, how_to_go_on: Callable[[], str]) -> Iterator[None]:
    """Within the block only the first of several ranks prints; when one is lost, the others end with one line.

    how_to_go_on: the end of that line. Alone, nothing changes.
    """
    if not on_several_ranks():
        yield
        return
    from hunyuan_video.distributed.team import is_loss

    with contextlib.ExitStack() as stack:
        stack.enter_context(_ends_on_termination(command, how_to_go_on))
        if os.environ.get("RANK", "0") != "0":
            nowhere = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
            stack.enter_context(contextlib.redirect_stderr(nowhere))
        try:
            yield
        except (RuntimeError, OSError) as error:
            if not is_loss(error):
                raise
            raise UserError(f"{GONE}; {how_to_go_on()}") from error


@contextlib.contextmanager
def _ends_on_termination(command: str, how_to_go_on: Callable[[], str]) -> Iterator[None]:
    """SIGTERM, which torchrun sends when a rank is lost, ends this one at once, inside a collective too.

    A thread waits for it: the main one may be where Python answers no signal.
    """
    try:
        before = signal.signal(signal.SIGTERM, lambda number, frame: None)
    except ValueError:  # not in the main thread: signals are not ours to handle
        yield
        return
    stderr = sys.stderr
    read, write = os.pipe()
    os.set_blocking(write, False)
    wakeup = signal.set_wakeup_fd(write, warn_on_full_buffer=False)

    def wait() -> None:
        while number := os.read(read, 1):
            if number[0] == signal.SIGTERM:
                say_last(f"hunyuan-video {command}: {GONE}; {how_to_go_on()}", stderr)
                os._exit(128 + signal.SIGTERM)

    thread = threading.Thread(target=wait, name="termination", daemon=True)
    thread.start()
    yield  # after a failure it stays so until the process has ended: its last line is still to come
    signal.set_wakeup_fd(wakeup)
    signal.signal(signal.SIGTERM, before)
    os.close(write)  # the thread ends
    thread.join()
    os.close(read)
