"""Cost of an import: the package alone is nothing, and sampling needs neither transformers nor diffusers."""

from __future__ import annotations

import subprocess
import sys

LIGHT = """
import sys
import hunyuan_video
import hunyuan_video.cli
heavy = {"torch", "numpy", "transformers", "diffusers", "av", "PIL"} & set(sys.modules)
assert not heavy, f"import hunyuan_video pulled in {heavy}"
assert hunyuan_video.__version__ and set(hunyuan_video.__all__) <= set(dir(hunyuan_video))
from hunyuan_video.cli.entry import build_parser
build_parser().parse_args(["sample", "a star", "--seed", "3"])
assert "torch" not in sys.modules, "parsing a command line imports torch"
for name in hunyuan_video.__all__:
    getattr(hunyuan_video, name)
import hunyuan_video.sampling.pipeline
heavy = {"transformers", "diffusers", "accelerate"} & set(sys.modules)
assert not heavy, f"the pipeline pulled in {heavy}"
"""


def test_imports_are_light():
    subprocess.run([sys.executable, "-c", LIGHT], check=True)
