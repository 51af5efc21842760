"""Fingerprint of the C interface that the native module is built from.

CMakeLists.txt runs this file (`python interface.py CSRC`) and compiles the answer into the module; in a source tree the
loader computes it again, so that a module left there by an older build is refused instead of failing in the middle.
"""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path

CSRC = Path(__file__).resolve().parents[2] / "csrc"
SOURCES = ("include/*.h", "include/hunyuan/*.h", "bindings/*.h", "bindings/*.cpp")
COMMENT_OR_SPACE = re.compile(r"(?:/\*.*?\*/|//[^\n]*|\s)+", re.DOTALL)


def fingerprint(csrc: Path) -> str:
    """Hash of the public headers and the bindings below `csrc`, without their comments and white space."""
    digest = hashlib.sha256()
    for path in sorted(path for pattern in SOURCES for path in csrc.glob(pattern)):
        digest.update(COMMENT_OR_SPACE.sub(" ", path.read_text(encoding="utf-8")).encode())
    return digest.hexdigest()[:16]


def expected() -> str | None:
    """Fingerprint of the sources beside this package; None where it was installed without them."""
    return fingerprint(CSRC) if CSRC.is_dir() else None


if __name__ == "__main__":
    print(fingerprint(Path(sys.argv[1])))
