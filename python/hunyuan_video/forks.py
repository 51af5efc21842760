"""Processes forked from one that has worked with several threads: torch's pool of them does not survive the fork.

Its first loop over several threads would wait for ever, without a word.
"""

from __future__ import annotations

import os
import sys

from hunyuan_video.errors import UserError

_worked = False  # with several threads, in this process
_forked = False  # from a process that had


def check_threads() -> None:
    """UserError in a process forked from one that had worked with several threads, unless it works with one."""
    torch = sys.modules.get("torch")
    if _forked and torch is not None and torch.get_num_threads() > 1:
        raise UserError(
            "this process was forked from one that had worked with several threads, and torch's do not survive that: "
            "start processes by multiprocessing's 'spawn', or call torch.set_num_threads(1) in the child"
        )


def begin_work() -> None:
    """Work that may use several threads begins here. UserError as `check_threads`."""
    global _worked
    check_threads()
    torch = sys.modules.get("torch")
    if not _worked and torch is not None and torch.get_num_threads() > 1:
        _worked = True
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_after_fork)


def _after_fork() -> None:
    global _forked
    _forked = True
