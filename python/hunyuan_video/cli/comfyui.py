"""`hunyuan-video comfyui install FOLDER`: the nodes for ComfyUI into its custom_nodes folder."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    parser = commands.add_parser("comfyui", help="put the nodes for ComfyUI into its custom_nodes folder")
    parser.add_argument("action", choices=("install",), help="what to do")
    parser.add_argument("folder", metavar="FOLDER", help="ComfyUI's folder custom_nodes")
    parser.add_argument("--link", action="store_true", help="link the nodes instead of copying them")
    return parser


def run(args: argparse.Namespace) -> int:
    from hunyuan_video.integrations.comfyui.install import install

    print(f"{install(Path(args.folder), args.link)}: restart ComfyUI; the nodes are under 'hunyuan video'")
    return 0
