"""A disk that is full, a folder that may not be written: one line, and what was there before stays as it was."""

from __future__ import annotations

import errno

import pytest

parquet = pytest.importorskip("pyarrow.parquet")

from hunyuan_video.curation import work  # noqa: E402
from hunyuan_video.curation.analysis import Analysis  # noqa: E402
from hunyuan_video.curation.manifest import FILE, Fragment, read_rows, write_fragment, write_manifest  # noqa: E402
from hunyuan_video.curation.sources import SourceFile  # noqa: E402
from hunyuan_video.errors import UserError  # noqa: E402


@pytest.fixture
def full(monkeypatch):
    """Every table ends half-written with "no space left"."""

    def write_table(table, path, **settings):
        path.write_bytes(b"PAR1 half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(parquet, "write_table", write_table)


def files(folder) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_manifest_on_a_full_disk_stays_the_old_one(tmp_path, request):
    write_manifest(tmp_path, [{"clip": "old"}], {})
    request.getfixturevalue("full")
    with pytest.raises(UserError, match="cannot write .*No space left on device.*free some space"):
        write_manifest(tmp_path, [{"clip": "new"}], {})
    assert [row["clip"] for row in read_rows(tmp_path / FILE)] == ["old"] and files(tmp_path) == [FILE]


def test_a_fragment_on_a_full_disk_is_not_there(tmp_path, full):
    with pytest.raises(UserError, match="No space left on device"):
        write_fragment(tmp_path / "fragments" / "a.parquet", Fragment([], "made"))
    assert files(tmp_path) == []


def test_a_source_on_a_full_disk_ends_the_run_and_not_as_a_refused_source(tmp_path, full, monkeypatch):
    monkeypatch.setattr(work, "analyze", lambda path, models: Analysis([]))
    source = tmp_path / "a.mp4"
    source.write_bytes(b"frames")
    with pytest.raises(UserError, match="No space left on device"):
        work.curate_source(SourceFile(source, "a.mp4", str(tmp_path)), tmp_path / "out", None)
    assert files(tmp_path) == ["a.mp4"]


def test_a_folder_that_may_not_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(work.os, "access", lambda path, mode: False)
    with pytest.raises(UserError, match="permission denied; choose another folder"):
        work.checked_output(tmp_path / "out")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write .*choose another folder"):
        work.checked_output(tmp_path / "file")
