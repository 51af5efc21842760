"""The oldest versions that pyproject.toml allows, for `make test-oldest`: `python tests/helpers/oldest.py [EXTRA ...]`.

Prints NAME==VERSION for every requirement of the package and of the extras; torch is left out, whichever is there is
used. A requirement without a floor ends it: nobody can say what is supported.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import tomllib  # Python 3.11
from packaging.requirements import Requirement

PROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"
LEFT_OUT = ("torch",)


def oldest(project: dict, extras: tuple[str, ...] = ()) -> Iterator[str]:
    """NAME==VERSION of the requirements in a parsed pyproject.toml. ValueError where one has no floor."""
    listed = list(project["project"]["dependencies"])
    for extra in extras:
        listed += project["project"]["optional-dependencies"][extra]
    for requirement in map(Requirement, listed):
        floors = [each.version for each in requirement.specifier if each.operator in (">=", "==")]
        if requirement.name in LEFT_OUT:
            continue
        if len(floors) != 1:
            raise ValueError(f"{requirement}: give it a floor, {requirement.name}>=VERSION")
        yield f"{requirement.name}=={floors[0]}"


if __name__ == "__main__":
    print("\n".join(oldest(tomllib.loads(PROJECT.read_text()), tuple(sys.argv[1:]))))
