"""The node pack's place in a custom_nodes folder."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from hunyuan_video.errors import UserError
from hunyuan_video.files import staged_folder

PACK = Path(__file__).with_name("pack")
NAME = "hunyuan_video_nodes"  # of the folder in custom_nodes
FILES = {"__init__.py", "example_workflows", "__pycache__"}


def install(custom_nodes: Path, link: bool = False) -> Path:
    """Copies the node pack into ComfyUI's folder custom_nodes, or links it there; the folder that was made.

    An earlier one is replaced. UserError, and nothing changed, where custom_nodes is no folder, or something else has
    the pack's name there.
    """
    if (custom_nodes / "custom_nodes").is_dir():
        raise UserError(f"{custom_nodes} is ComfyUI itself; give its folder of nodes, {custom_nodes / 'custom_nodes'}")
    if not custom_nodes.is_dir():
        raise UserError(f"{custom_nodes}: no such folder; give the folder custom_nodes of ComfyUI")
    target = custom_nodes / NAME
    try:
        if target.is_symlink():
            target.unlink()
        if link:
            if target.exists():
                raise UserError(f"{target} is there already, as a copy; delete it before it is linked")
            os.symlink(PACK, target, target_is_directory=True)
            return target
        with staged_folder(target, lambda entry: entry.name in FILES) as staged:
            shutil.copytree(PACK, staged, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    except OSError as error:
        raise UserError(f"cannot write {target} ({error.strerror or error}); check the folder's permissions") from error
    return target
