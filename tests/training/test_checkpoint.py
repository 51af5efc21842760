"""Checkpoints on disk: whole or not there, damaged ones passed over, a full disk, changed models."""

import errno
import json
import resource
from unittest.mock import Mock

import pytest
import torch

from hunyuan_video.distributed.ranks import Ranks
from hunyuan_video.errors import UserError
from hunyuan_video.training import checkpoint
from hunyuan_video.training.checkpoint import Checkpoints


@pytest.fixture
def lines():
    return []


@pytest.fixture
def checkpoints(tmp_path, lines):
    made = Checkpoints(tmp_path / "checkpoints", 2, Ranks(), lines.append)
    yield made
    made.close()


def save(checkpoints, step, value=1.0):
    checkpoints.save(step, {"x": torch.full((3, 2), value), "y": torch.arange(4)}, {"skipped": 0})
    checkpoints.wait()


def names(checkpoints):
    return sorted(path.name for path in checkpoints.folder.iterdir())


def test_what_was_saved_is_loaded(checkpoints):
    save(checkpoints, 4, 2.5)
    step, run = checkpoints.newest()
    places = {"x": torch.zeros(3, 2), "y": torch.zeros(4, dtype=torch.int64)}
    checkpoints.load(step, places)
    assert step == run["step"] == 4 and run["skipped"] == 0
    assert torch.equal(places["x"], torch.full((3, 2), 2.5)) and torch.equal(places["y"], torch.arange(4))


def test_training_may_change_the_tensors_at_once(checkpoints):
    x = torch.ones(1000)
    checkpoints.save(1, {"x": x}, {})
    x.zero_()
    checkpoints.wait()
    place = {"x": torch.zeros(1000)}
    checkpoints.load(1, place)
    assert place["x"].sum() == 1000


def test_only_the_newest_are_kept(checkpoints):
    for step in range(1, 5):
        save(checkpoints, step)
    assert names(checkpoints) == ["step_0000003", "step_0000004"]


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove", "manifest", "list"])
def test_a_damaged_checkpoint_is_passed_over_and_named(checkpoints, lines, damage):
    save(checkpoints, 4)
    save(checkpoints, 8)
    folder = checkpoints.path(8)
    data = next(folder.glob("*.distcp"))
    content = bytearray(data.read_bytes())
    if damage == "truncate":
        data.write_bytes(content[:-10])
    elif damage == "flip":
        content[len(content) // 2] ^= 1
        data.write_bytes(content)
    elif damage == "remove":
        data.unlink()
    else:
        (folder / "files.json").write_text("{" if damage == "manifest" else "[]")
    assert checkpoints.newest()[0] == 4
    assert len(lines) == 1 and "step_0000008" in lines[0] and "set aside as step_0000008.damaged" in lines[0]
    assert names(checkpoints) == ["step_0000004", "step_0000008.damaged"] and checkpoints.newest()[0] == 4
    assert len(lines) == 1  # told once


@pytest.mark.parametrize("cut", [True, False], ids=["cut off", "gone"])
def test_rotation_counts_whole_checkpoints_only(checkpoints, lines, cut):
    """A higher number that is damaged does not push out the checkpoints that are saved after it."""
    for step in (4, 8, 12):
        save(checkpoints, step)
    for step in (8, 12):
        data = next(checkpoints.path(step).glob("*.distcp"))
        data.write_bytes(data.read_bytes()[:-1]) if cut else data.unlink()
    save(checkpoints, 6)
    save(checkpoints, 7)
    assert names(checkpoints) == ["step_0000006", "step_0000007", "step_0000008.damaged", "step_0000012.damaged"]
    assert [line.split(":")[0][-12:] for line in lines] == ["step_0000012", "step_0000008"]
    assert checkpoints.newest()[0] == 7


def test_a_half_written_checkpoint_is_ignored_and_named(checkpoints, lines):
    save(checkpoints, 4)
    half = checkpoints.path(8).with_suffix(".tmp")
    half.mkdir()
    (half / "__0_0.distcp").write_bytes(b"123")
    assert checkpoints.newest()[0] == 4
    assert "half written" in lines[0] and not half.exists()


def test_nothing_there(checkpoints):
    assert checkpoints.newest() is None and checkpoints.steps() == []


def test_a_full_disk_stops_the_run_and_leaves_the_last_checkpoint(checkpoints, monkeypatch):
    save(checkpoints, 4)

    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_json", full)
    checkpoints.save(8, {"x": torch.zeros(2)}, {})
    with pytest.raises(UserError, match="disk is full; step 4 is safe; make room"):
        checkpoints.wait()
    monkeypatch.undo()
    assert names(checkpoints) == ["step_0000004"] and checkpoints.newest()[0] == 4


def test_a_quota_and_a_limit_are_a_full_disk(checkpoints, monkeypatch):
    for code in (errno.EDQUOT, errno.EFBIG):
        monkeypatch.setattr(checkpoint, "write_json", Mock(side_effect=OSError(code, "no")))
        checkpoints.save(8, {"x": torch.zeros(2)}, {})
        with pytest.raises(UserError, match="disk is full; nothing is saved yet; make room and continue with --resume"):
            checkpoints.wait()


def test_a_file_that_cannot_be_written_stops_the_run(checkpoints, monkeypatch):
    """The same from within torch.distributed.checkpoint, which wraps what it raises."""

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint.dcp.FileSystemWriter, "write_data", full)
    checkpoints.save(8, {"x": torch.zeros(2)}, {})
    with pytest.raises(UserError, match="disk is full; nothing is saved yet"):
        checkpoints.wait()


def test_a_write_that_is_cut_off_is_a_full_disk(checkpoints):
    """A real one: files of this process may not grow beyond a megabyte for a moment."""
    save(checkpoints, 4)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        checkpoints.save(8, {"x": torch.zeros(1 << 20)}, {})
        with pytest.raises(UserError, match="step_0000008: the disk is full; step 4 is safe; make room and continue"):
            checkpoints.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert names(checkpoints) == ["step_0000004"]


@pytest.mark.parametrize(
    ("place", "words"),
    [({"z": torch.zeros(1)}, ["'z'", "no tensor"]), ({"x": torch.zeros(3, 3)}, ["'x'", "[3, 2]", "[3, 3]"])],
)
def test_a_changed_model_is_named(checkpoints, place, words):
    save(checkpoints, 4)
    with pytest.raises(UserError) as error:
        checkpoints.load(4, place)
    assert all(word in str(error.value) for word in words)


def test_run_json_is_readable(checkpoints):
    save(checkpoints, 4)
    assert json.loads((checkpoints.path(4) / "run.json").read_text())["step"] == 4
