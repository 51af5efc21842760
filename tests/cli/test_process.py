"""The command as a process: its quick end loses no output, and its quick start leaves collection on."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from hunyuan_video.cli.start import collector_paused

ENDS = """
import atexit, sys, threading, time
from hunyuan_video.cli.process import end
atexit.register(lambda: print("handlers run"))
{extra}
print("buffered", end=" ")
end(3)
"""
THREAD = "threading.Thread(target=lambda: (time.sleep(0.3), print('thread done'))).start()"


@pytest.mark.parametrize(("extra", "shown"), [("", "buffered handlers run"), (THREAD, "buffered thread done")])
def test_the_end_keeps_output_handlers_threads_and_code(extra, shown):
    done = subprocess.run([sys.executable, "-c", ENDS.format(extra=extra)], capture_output=True, text=True)
    assert done.returncode == 3 and done.stdout.split("\n")[0] == shown and "handlers run" in done.stdout


def test_a_reader_that_is_gone_does_not_hang_the_end():
    code = "import sys\nfrom hunyuan_video.cli.process import end\nprint('x' * 10)\nend(0)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    process.stdout.close()
    assert process.wait(timeout=60) != 0


def test_module_runs_the_command():
    words = [sys.executable, "-m", "hunyuan_video", "show", "nothing.mp4"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("hunyuan-video show:")


def test_collection_goes_on_after_the_start(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch")
    try:
        with collector_paused():
            assert not gc.isenabled()
        assert gc.isenabled() and gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
    with pytest.raises(RuntimeError), collector_paused():
        raise RuntimeError
    assert gc.isenabled()
    gc.unfreeze()


def test_in_a_program_that_has_torch_nothing_is_paused():
    import torch  # noqa: F401

    with collector_paused():
        assert gc.isenabled()
    assert gc.get_freeze_count() == 0
