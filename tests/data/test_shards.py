"""Tar shards: readable by anyone, random access, nothing half-written."""

import resource
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hunyuan_video.data.shards import ShardWriter, index_path, is_complete, read_index, read_member
from hunyuan_video.errors import UserError


@settings(max_examples=25, deadline=None)
@given(st.lists(st.binary(max_size=2000), max_size=6), st.integers(1, 150))
def test_members_come_back_and_tar_agrees(tmp_path_factory, contents, name_length):
    path = tmp_path_factory.mktemp("shard") / "x" / "00000.tar"
    names = [f"{i}".rjust(name_length, "n") for i in range(len(contents))]
    with ShardWriter(path) as writer:
        for name, content in zip(names, contents, strict=True):
            writer.add(name, content)
    assert [read_member(member) for member in read_index(path)] == contents
    with tarfile.open(path) as tar:
        assert tar.getnames() == names
        assert [tar.extractfile(name).read() for name in names] == contents


def test_equal_contents_give_equal_shards(tmp_path):
    for name in ("a.tar", "b.tar"):
        with ShardWriter(tmp_path / name) as writer:
            writer.add("one", b"1" * 700)
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


@pytest.mark.parametrize("size", [1 << 21, (1 << 20) - 1500])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, size):
    """A file that may not grow beyond a megabyte: the member does not fit, or only the end of the archive."""
    path = tmp_path / "00000.tar"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        message = "cannot write .*00000.tar: File too large; free some space"
        with pytest.raises(UserError, match=message), ShardWriter(path) as writer:
            writer.add("one", b"1" * size)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_nothing(tmp_path):
    path = tmp_path / "00000.tar"
    with pytest.raises(RuntimeError), ShardWriter(path) as writer:
        writer.add("one", b"1")
        raise RuntimeError("disk on fire")
    assert list(tmp_path.iterdir()) == []
    assert not is_complete(path)


def test_damage_is_one_line(tmp_path):
    path = tmp_path / "00000.tar"
    with ShardWriter(path) as writer:
        writer.add("one", b"1" * 3000)
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(UserError, match="cut off"):
        read_index(path)
    index_path(path).write_text("{")
    with pytest.raises(UserError, match="not the index"):
        read_index(path)
