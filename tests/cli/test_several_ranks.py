"""`sample` on several ranks: the bits of one, one that speaks, and the end when one is lost or differs."""

import os
import signal

import pytest
import torch
from helpers.random_checkpoint import write_random_checkpoint
from helpers.torchrun_ranks import run_ranks
from safetensors.torch import load_file

from hunyuan_video.cli.entry import main
from hunyuan_video.sampling.progress import StepBar

OUTPUTS = ["-o", "made.safetensors", "-o", "made/"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_random_checkpoint(tmp_path_factory.mktemp("ranks"), guidance_embed=True)


def command(folder, *more):
    return ["sample", "a red circle", "--model", str(folder), "--seed", "5", "--device", "cpu", *OUTPUTS, *more]


def latents(folder):
    return load_file(folder / "made.safetensors")["latents"]


def frames(folder):
    return [path.read_bytes() for path in sorted((folder / "made").iterdir()) if path.suffix == ".png"]


def endings(ends):
    """Lines that a command ended with, of all ranks (a slow machine shows progress, and libraries warn)."""
    text = "".join(end.err for end in ends)
    assert "Traceback" not in text
    return [line for line in text.splitlines() if line.startswith("hunyuan-video sample: ")]


@pytest.fixture
def alone(folder, tmp_path, monkeypatch):
    """Folder of the same video made by one process, of 3 * 3 * 5 = 45 tokens."""
    (tmp_path / "one").mkdir()
    monkeypatch.chdir(tmp_path / "one")
    threads = torch.get_num_threads()
    try:
        assert main([*command(folder, "--num-frames", "9", "--height", "48", "--width", "80"), "--threads", "1"]) == 0
    finally:
        torch.set_num_threads(threads)
    return tmp_path / "one"


def test_ranks_make_the_video_of_one(folder, alone, tmp_path):  # the model has 2 heads
    ends = run_ranks(tmp_path, [command(folder, "--num-frames", "9", "--height", "48", "--width", "80")] * 3)
    assert [end.code for end in ends] == [0] * 3, ends
    assert torch.equal(latents(alone), latents(tmp_path)) and len(frames(alone)) == 9
    assert frames(alone) == frames(tmp_path)
    assert "sampling: step 4/4" in ends[0].err and "made" in ends[0].out
    assert not any("sampling" in end.err or end.out for end in ends[1:])


def test_ranks_with_other_arguments_are_told_so_once(folder, tmp_path):
    ends = run_ranks(tmp_path, [command(folder), command(folder, "--num-frames", "9")])
    assert all(end.code for end in ends)
    lines = endings(ends)
    assert len(lines) == 1 and "rank 1 has num_frames 9, rank 0 has None; start all ranks" in lines[0]


def test_a_wrong_argument_is_told_once(folder, tmp_path):
    ends = run_ranks(tmp_path, [command(folder, "--height", "33")] * 2)
    lines = endings(ends)
    assert ends[0].code == 2 and len(lines) == 1 and "height" in lines[0]


def dies():
    """The last rank kills itself after its second step."""
    update = StepBar.update

    def count(self, step):
        update(self, step)
        if step == 2 and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGKILL)

    StepBar.update = count


def test_a_lost_rank_ends_all_with_one_line_and_the_state_goes_on(folder, tmp_path, monkeypatch):
    ends = run_ranks(tmp_path, [command(folder)] * 2, dies)
    assert ends[1].code == -signal.SIGKILL and ends[0].code > 0
    lines = endings(ends)
    assert len(lines) == 1 and "another rank was lost" in lines[0]
    assert lines[0].endswith("continue with: hunyuan-video sample --resume made.state.safetensors")
    monkeypatch.chdir(tmp_path)
    assert main(["sample", "--resume", "made.state.safetensors", "--threads", "1"]) == 0
    resumed = latents(tmp_path)
    (tmp_path / "whole").mkdir()
    monkeypatch.chdir(tmp_path / "whole")
    assert main([*command(folder), "--threads", "1"]) == 0
    assert torch.equal(resumed, latents(tmp_path / "whole"))
