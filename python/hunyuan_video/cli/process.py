"""The `hunyuan-video` process: a command, and a quick end.

Of the 1.30 s that `python -c "import torch"` takes (torch 2.13, two cores of a Xeon), 0.30 s go into taking the
interpreter apart, object by object; another 0.13 s into garbage collection (start.py).
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import sys
import threading
from typing import NoReturn

from hunyuan_video.cli.entry import main


def program() -> NoReturn:
    """`hunyuan-video` as a process: runs the command line and exits with its code."""
    end(main())


def end(code: int) -> NoReturn:
    """Ends the process; without freeing millions of objects one by one where nothing but this thread still runs."""
    if threading.active_count() == 1 and not multiprocessing.active_children():
        atexit._run_exitfuncs()
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except (OSError, ValueError):  # closed by the reader: the usual way knows what to do
            sys.exit(code)
        os._exit(code)
    sys.exit(code)
