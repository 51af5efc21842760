"""Everything on a machine with a GPU, one command: see benchmarks/gpu/__main__.py, or --help."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:1] = [str(ROOT), str(ROOT / "python")]  # in the place of this folder, where `gpu` is this file

if __name__ == "__main__":
    from benchmarks.gpu.__main__ import main

    sys.exit(main())
