"""Entry point: one parser with a subcommand per module, and every failure told in one line.

Exit codes: 0 done; 1 a failure; 2 wrong arguments; 130 interrupted (Ctrl-C, SIGTERM).
A traceback appears only with --debug.
"""

from __future__ import annotations

import argparse
import errno
import logging
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import NoReturn

from hunyuan_video import __version__
from hunyuan_video.cli import (
    card,
    comfyui,
    convert,
    curate,
    decode,
    distill,
    doctor,
    download,
    encode,
    evaluate,
    inspect,
    plan,
    sample,
    scaling,
    serve,
    show,
    train,
)
from hunyuan_video.cli.interrupt import terminate_as_interrupt
from hunyuan_video.cli.paths import expand_paths
from hunyuan_video.cli.progress import Phases
from hunyuan_video.cli.ranks import say_last, speaks
from hunyuan_video.errors import ArgumentError, IneffectiveArgument, Interruption, Notice, UserError
from hunyuan_video.phases import watched

INTERRUPTED = 130  # as shells say of a program that Ctrl-C ended
# What a system says of a path that a person gave; of other errors a program may be the cause.
REFUSALS = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO)
COMMANDS = (
    *(sample, plan, decode, show, inspect, doctor, convert, download, curate, encode, train, distill, scaling),
    *(evaluate, card, serve, comfyui),
)


class OneLineParser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line, and which takes no abbreviated options."""

    def __init__(self, **options):
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        if not speaks():
            self.exit(2)
        self.exit(2, f"{self.prog}: {one_line(message)} (see {self.prog} --help)\n")


def build_parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="hunyuan-video", description="HunyuanVideo: sample, inspect, convert and train.")
    parser.add_argument("--version", action="version", version=f"hunyuan-video {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=OneLineParser)
    for module in COMMANDS:
        command = module.add_parser(commands)
        command.add_argument("--debug", action="store_true", help="show the traceback of a failure")
        command.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line (default: this process's) and returns its exit code."""
    parser = build_parser()
    try:
        args = parser.parse_args(argv)
    except SystemExit as stop:  # argparse has said what is wrong
        return int(stop.code or 0)
    with warnings.catch_warnings():
        if not args.debug:
            warnings.simplefilter("ignore")  # libraries' notes to programmers; failures are told below
            warnings.simplefilter("always", Notice)
            warnings.showwarning = _notice_printer()
            logging.getLogger("PIL").addHandler(logging.NullHandler())  # damaged pictures are told below, too
        return _run(args)


def _notice_printer() -> Callable[..., None]:
    """Printer of notices, each once, with the command line's names for arguments."""
    shown: set[str] = set()

    def show(message: Warning | str, category: type[Warning] = UserWarning, *_: object) -> None:
        text = str(message)
        if issubclass(category, IneffectiveArgument):
            text = re.sub(r"\b[a-z]+(_[a-z]+)+\b", lambda name: "--" + name[0].replace("_", "-"), text)
        if text not in shown:
            shown.add(text)
            print(f"note: {text}", file=sys.stderr)

    return show


def _run(args: argparse.Namespace) -> int:
    try:
        expand_paths(args)
        with terminate_as_interrupt(), watched(Phases()):
            return args.run(args)
    except ArgumentError as error:
        return _fail(args, error, str(error), code=2)
    except Interruption as error:
        return _fail(args, error, str(error), code=INTERRUPTED)
    except UserError as error:
        return _fail(args, error, str(error), code=1)
    except KeyboardInterrupt as error:
        return _fail(args, error, "interrupted", code=INTERRUPTED)
    except BrokenPipeError:  # the reader of our output is gone (`| head`): nothing to tell anyone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if refused := refused_path(error):
            return _fail(args, error, refused, code=1)
        text = f"{type(error).__name__}: {error}; this is a bug or a broken installation, --debug shows where"
        return _fail(args, error, text, code=1)


def refused_path(error: Exception) -> str:
    """A line for a path that the system refuses, wherever it was met; "" for all other errors."""
    if not isinstance(error, OSError) or error.errno not in REFUSALS or not isinstance(error.filename, str):
        return ""
    name = error.filename if len(error.filename) <= 120 else f"{error.filename[:60]}...{error.filename[-40:]}"
    return f"{name}: {error.strerror}; give another path"


def _fail(args: argparse.Namespace, error: BaseException, text: str, code: int) -> int:
    if args.debug:
        traceback.print_exception(error)
    say_last(f"hunyuan-video {args.command}: {one_line(text)}", sys.stderr)
    return code


def one_line(text: str) -> str:
    return " ".join(text.split())
