"""Code blocks of Markdown pages: which of them run, and running them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hunyuan_video.cli import main

BLOCK = re.compile(
    r"(?P<skip><!-- not run by the tests: [^>]+ -->\n)?```(?P<language>sh|python)\n(?P<code>.*?)```", re.S
)


@dataclass
class Block:
    """One block. runs: False below a comment that says why not: <!-- not run by the tests: REASON -->."""

    page: str
    line: int
    language: str
    code: str
    runs: bool

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    def run(self, change: Callable[[list[str]], list[str]] = lambda words: words) -> None:
        """Runs its Python, or its commands, each after `change`."""
        if self.language == "python":
            exec(compile(self.code, str(self), "exec"), {"__name__": "__main__"})
            return
        for line in self.code.splitlines():
            words = shlex.split(line, comments=True)
            if words:
                assert words[0] == "hunyuan-video", f"only hunyuan-video can be run here, not {line!r}"
                assert main(change(words[1:])) == 0, line


def blocks_of(page: Path) -> list[Block]:
    """The shell and Python blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(page.name, text[: match.start("code")].count("\n"), match["language"], match["code"], not match["skip"])
        for match in BLOCK.finditer(text)
    ]
