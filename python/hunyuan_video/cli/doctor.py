"""`hunyuan-video doctor`: what this machine is, what was built, and which kernel each operation uses and why."""

from __future__ import annotations

import argparse


def add_parser(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser("doctor", help="explain the machine, the build and each operation's choice")
    parser.add_argument("--json", action="store_true", help="print the raw facts")
    return parser


def run(args: argparse.Namespace) -> int:
    return 0
