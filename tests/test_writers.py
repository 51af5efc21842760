"""One writer a folder, and what killed ones leave."""

import json
import multiprocessing
import os
import signal
import time

import pytest

from hunyuan_video import writers
from hunyuan_video.checkpoints.lora import convert_adapter
from hunyuan_video.errors import Notice, UserError
from hunyuan_video.files import staged_file, staged_folder
from hunyuan_video.writers import machine, one_writer, temporary_name

PROCESSES = multiprocessing.get_context("fork")


def hold(folder, entered, beside=False, part=""):
    with one_writer(folder, "trains", beside=beside, part=part):
        entered.set()
        time.sleep(600)


@pytest.fixture
def holder():
    """holder(folder, ...) -> a process that writes there until it is killed."""
    started = []

    def start(folder, **options):
        entered = PROCESSES.Event()
        process = PROCESSES.Process(target=hold, args=(folder, entered), kwargs=options)
        process.start()
        started.append(process)
        assert entered.wait(60)
        return process

    yield start
    for process in started:
        process.kill()
        process.join()


@pytest.fixture(params=["flock", "no flock"])
def locks(request, monkeypatch):
    """With the system's locks, and as on a disk that has none."""
    if request.param == "no flock":
        monkeypatch.setattr(writers, "fcntl", None)


def test_an_adapter_is_converted_by_one_process(tmp_path, holder, locks):
    process = holder(tmp_path / "a.safetensors", beside=True)
    with pytest.raises(UserError, match=f"a.safetensors: process {process.pid} trains here"):
        convert_adapter(tmp_path / "kohya.safetensors", tmp_path / "a.safetensors", "diffusers")
    process.kill()
    process.join()


@pytest.mark.parametrize("beside", [False, True])
def test_a_second_writer_is_told_of_the_first(tmp_path, holder, locks, beside):
    process = holder(tmp_path / "run", beside=beside)
    with (
        pytest.raises(UserError, match=rf"run: process {process.pid} trains here since 20.*choose another output$"),
        one_writer(tmp_path / "run", "encodes", beside=beside),
    ):
        pass
    process.kill()
    process.join()
    with (
        pytest.warns(Notice, match=f"process {process.pid}, which trains here, was killed; this one goes on"),
        one_writer(tmp_path / "run", "encodes", beside=beside),
    ):
        pass
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_lock_goes_with_its_block_and_takes_only_its_own_folders_along(tmp_path, locks):
    for _ in range(2):
        with one_writer(tmp_path / "a" / "b", "trains"):
            assert (tmp_path / "a" / "b").is_dir()
        assert not (tmp_path / "a").exists()
    with pytest.raises(ZeroDivisionError), one_writer(tmp_path / "a" / "b", "trains"):
        (tmp_path / "a" / "kept").write_text("")
        raise ZeroDivisionError
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["kept"]


def test_other_parts_of_a_folder_are_free(tmp_path, holder):
    process = holder(tmp_path / "data", part="-0-of-2")
    with one_writer(tmp_path / "data", "encodes", part="-1-of-2"):
        pass
    with (
        pytest.raises(UserError, match=f"process {process.pid}"),
        one_writer(tmp_path / "data", "encodes", part="-0-of-2"),
    ):
        pass


def test_without_locks_of_the_system_another_machine_must_be_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(writers, "fcntl", None)
    content = {"process": 2**22 + 5, "machine": "0" * 8, "host": "far", "does": "trains", "since": "yesterday"}
    lock = tmp_path / writers.LOCK
    lock.write_text(json.dumps(content))
    with (
        pytest.raises(UserError, match=rf"on far process {2**22 + 5} trains here since yesterday.*delete {lock}"),
        one_writer(tmp_path, "trains"),
    ):
        pass
    lock.write_text("{half")  # a disk that was full: nobody is named, nobody is locked out
    with one_writer(tmp_path, "trains"):
        pass


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match="cannot write .*file/run: Not a directory"),
        one_writer(tmp_path / "file" / "run", "trains"),
    ):
        pass


def gone_name(path, kind):
    """A temporary name of a process that is no more."""
    child = PROCESSES.Process(target=int)
    child.start()
    child.join()
    return path.parent / temporary_name(path, kind).name.replace(f".{os.getpid()}-", f".{child.pid}-")


def swept_now(monkeypatch):
    monkeypatch.setattr(writers, "_swept", set())


def test_what_killed_processes_left_is_removed(tmp_path, monkeypatch):
    swept_now(monkeypatch)
    gone = [gone_name(tmp_path / "clip.mp4", "tmp"), gone_name(tmp_path / "model", "probe")]
    for path in gone:
        path.write_text("half")
    folder = gone_name(tmp_path / "folder", "tmp")
    folder.mkdir()
    (folder / "x").write_text("")
    alive = [
        tmp_path / f".a.{os.getppid()}-{machine()}.tmp.mp4",  # runs
        tmp_path / ".a.1234567-00000000.tmp.mp4",  # another machine's
        tmp_path / ".a.tmp",  # another program's
    ]
    for path in alive:
        path.write_text("")
    with staged_file(tmp_path / "new") as file:
        file.write(b"1")
    assert sorted(tmp_path.iterdir()) == sorted([*alive, tmp_path / "new"])


def test_a_folder_that_had_stepped_aside_comes_back(tmp_path, monkeypatch):
    """Killed between the two renames of `staged_folder`."""
    swept_now(monkeypatch)
    old = gone_name(tmp_path / "model", "old")
    old.mkdir()
    (old / "weights").write_text("before")
    with pytest.raises(RuntimeError), staged_folder(tmp_path / "model", lambda entry: True):
        assert (tmp_path / "model" / "weights").read_text() == "before"
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def kill_inside(path):
    with staged_file(path) as file:
        file.write(b"half")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_is_killed_while_it_writes(tmp_path):
    child = PROCESSES.Process(target=kill_inside, args=(tmp_path / "out.bin",))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL and not (tmp_path / "out.bin").exists()
    assert len(list(tmp_path.iterdir())) == 1
    writers._swept.clear()
    with staged_file(tmp_path / "out.bin") as file:
        file.write(b"whole")
    assert [path.name for path in tmp_path.iterdir()] == ["out.bin"]
