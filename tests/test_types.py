"""Types of both packages are for programs that use them, too."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("package, folder", [("hunyuan_video", "python/hunyuan_video"), ("hunyuan_ext", "hunyuan_ext")])
def test_packages_say_that_they_have_types(package, folder):
    """PEP 561: the marker is there and goes into the wheel."""
    project = (ROOT / "pyproject.toml").read_text()
    assert (ROOT / folder / "py.typed").is_file()
    assert re.search(rf'^{package} = \[[^]]*"py.typed"[^]]*\]$', project, re.MULTILINE)


def test_a_program_is_checked_against_the_pipeline(tmp_path, monkeypatch):
    """mypy finds the misuse of a method that lies in another module, and of a stream's arguments."""
    api = pytest.importorskip("mypy.api")
    monkeypatch.setenv("MYPYPATH", f"{ROOT}:{ROOT / 'python'}")
    program = tmp_path / "program.py"
    program.write_text(
        "from hunyuan_video import HunyuanVideoPipeline\n"
        "pipe = HunyuanVideoPipeline.from_pretrained('tiny')\n"
        "pipe.load_lora_weights('style.safetensors', 'style')\n"
        "pipe.stream('a star', seed=1, progress=True)\n"
        "pipe.set_adapters(1)\n"
        "pipe.stream('a star', heigth=32)\n"
    )
    settings = tmp_path / "mypy.ini"  # torch's own types take mypy longer than both packages
    settings.write_text("[mypy]\n[mypy-torch.*,numpy.*]\nfollow_imports = skip\n")
    options = [f"--config-file={settings}", "--no-incremental", "--follow-imports=silent", "--ignore-missing-imports"]
    report, _, _ = api.run([str(program), *options])
    lines = [line for line in report.splitlines() if "error:" in line]
    assert [line.split(":")[1] for line in lines] == ["5", "6"], report
