"""The fingerprint of the C interface: what changes it, and that the module beside these sources was built from them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hunyuan_ext.core import interface, native

HEADER = "/** An op. */\nint hunyuan_op(const void* x, int64_t count);  // of elements\n"


@pytest.fixture
def csrc(tmp_path):
    (tmp_path / "include" / "hunyuan").mkdir(parents=True)
    (tmp_path / "bindings").mkdir()
    (tmp_path / "include" / "hunyuan" / "norm.h").write_text(HEADER)
    (tmp_path / "bindings" / "norm.cpp").write_text('module.def("op", &op);\n')
    return tmp_path


def test_comments_and_spaces_do_not_count(csrc):
    before = interface.fingerprint(csrc)
    text = HEADER.replace("An op", "Another sentence").replace("// of elements", "").replace(", ", ",\n    ")
    (csrc / "include" / "hunyuan" / "norm.h").write_text(text)
    (csrc / "README").write_text("no source")
    assert interface.fingerprint(csrc) == before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("include/hunyuan/norm.h", "int64_t count", "int32_t count"),
        ("bindings/norm.cpp", '"op"', '"operation"'),
        ("bindings/linear.cpp", "", "int added;"),
    ],
)
def test_every_declaration_counts(csrc, name, old, new):
    before, path = interface.fingerprint(csrc), csrc / name
    path.write_text(path.read_text().replace(old, new) if path.exists() else new)
    assert interface.fingerprint(csrc) != before


def test_script_prints_what_the_module_is_built_with(csrc):
    done = subprocess.run(
        [sys.executable, "-I", interface.__file__, str(csrc)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == interface.fingerprint(csrc)


def test_nothing_is_expected_without_sources(csrc, monkeypatch):
    monkeypatch.setattr(interface, "CSRC", csrc / "absent")
    assert interface.expected() is None


needs_module = pytest.mark.skipif(native.module is None, reason="needs the native module")
needs_sources = pytest.mark.skipif(interface.expected() is None, reason="needs the sources beside the package")


@needs_module
@needs_sources
def test_module_was_built_from_these_sources():
    assert native.module.interface == interface.expected()


@needs_module
def test_a_module_of_other_sources_is_refused(monkeypatch):
    monkeypatch.setattr(interface, "expected", lambda: "another")
    with pytest.warns(UserWarning, match="no kernel of hunyuan_ext runs, torch does its work: .* build it again"):
        module, reason = native.load()
    assert module is None
    assert reason.endswith("was built from other sources; build it again")
