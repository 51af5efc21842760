"""Starts ComfyUI's main.py in this process: python comfyui_start.py FOLDER OF COMFYUI, then its own arguments.

torchvision of the index is built against another torch than the CPU one: its operators do not load, and its import
fails where it describes them. The nodes that are tested do not need them.
"""

from __future__ import annotations

import os
import runpy
import sys

import torch

plain = torch.library.register_fake


def register_fake(op, func=None, /, **options):
    if isinstance(op, str) and op.startswith("torchvision::"):
        return func if func is not None else lambda wrapped: wrapped
    return plain(op, func, **options)


if __name__ == "__main__":
    torch.library.register_fake = register_fake
    folder = sys.argv.pop(1)
    os.chdir(folder)
    sys.path[0] = folder
    sys.argv[0] = os.path.join(folder, "main.py")
    runpy.run_path("main.py", run_name="__main__")
