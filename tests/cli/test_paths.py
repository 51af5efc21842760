"""Every argument of the command line that takes text is a path, which is expanded, or is known to be none."""

import argparse

import pytest

from hunyuan_video.cli.entry import build_parser
from hunyuan_video.cli.paths import NAMED, PATHS, expand_paths
from hunyuan_video.errors import UserError

NO_PATHS = {
    "action", "address", "api_key", "attention", "bucket", "cache", "device", "device_memory", "dtype", "engine", "gpu",
    "host", "host_memory", "include", "invite", "keep", "layout", "measure", "memory", "names", "negative_prompt",
    "part", "pattern", "precision", "prompt", "repository", "revision", "set", "sigmas", "solver",
    "endpoint", "tier", "vae_mode", "worker", "world",
}  # fmt: skip


def texts(parser: argparse.ArgumentParser):
    """Names of the arguments that keep text, of a parser and of its commands."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from texts(command)
        elif action.nargs != 0 and action.type in (None, str):
            yield action.dest


def test_every_argument_is_a_path_or_known_to_be_none():
    names = set(texts(build_parser()))
    assert names - {*PATHS, *NAMED} == NO_PATHS & names, "put a new argument into PATHS, or into NO_PATHS here"
    assert {"against", "model", "sources"} <= names


@pytest.mark.parametrize(
    ("name", "given"), [("against", "~/a"), ("against", "$PLACE/a"), ("sources", ["~/a"]), ("join", ["x=~/a"])]
)
def test_paths_are_expanded(name, given, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PLACE", str(tmp_path))
    args = argparse.Namespace(**{name: given})
    expand_paths(args)
    assert getattr(args, name) in (f"{tmp_path}/a", [f"{tmp_path}/a"], [f"x={tmp_path}/a"])
    with pytest.raises(UserError, match="NOWHERE is not set"):
        expand_paths(argparse.Namespace(model="$NOWHERE/a"))
