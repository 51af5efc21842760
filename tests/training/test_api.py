"""Training from Python: the documented example, and a process that is afterwards as before."""

import json
import os
import random
import re
import signal
import warnings

import numpy as np
import pytest
import torch
import torch.distributed as dist
from helpers.small_parts import TINY

import hunyuan_video.data
import hunyuan_video.training
from hunyuan_video.distributed.config import ParallelConfig
from hunyuan_video.distributed.ranks import join_ranks
from hunyuan_video.errors import UserError
from hunyuan_video.training import load_config, read_log, train
from hunyuan_video.training.api import unchanged_process

SMALL = {"block_out_channels": [4, 4, 8, 8], "layers_per_block": 1, "norm_groups": 2, "latent_channels": 4}


def process_state():
    return {
        "threads": torch.get_num_threads(),
        "torch": torch.get_rng_state().tolist(),
        "random": random.getstate(),
        "numpy": str(np.random.get_state()),  # noqa: NPY002
        "environment": dict(os.environ),
        "handlers": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "filters": list(warnings.filters),
        "group": dist.is_initialized(),
        "grad": torch.is_grad_enabled(),
        "dtype": torch.get_default_dtype(),
    }


@pytest.fixture
def recipe(tmp_path):
    """A VAE run of one step on one thread, in a process that has two."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    loop = {"steps": 1, "batch": 1, "save_every": 1, "precision": "fp32", "threads": 1}
    content = {"kind": "vae", "output": str(tmp_path / "run"), "model": SMALL, "crop": 16, "crop_frames": 5,
               "world": {"size": 16, "num_frames": 5, "clips": 12}, "full_batch": 1, "loop": loop}  # fmt: skip
    path = tmp_path / "vae.yaml"
    path.write_text(json.dumps(content))
    yield path
    torch.set_num_threads(threads)


def test_the_process_is_afterwards_as_before(tmp_path, recipe):
    before = process_state()
    metrics = train(recipe, report=lambda line: None)
    assert process_state() == before
    assert metrics == read_log(tmp_path / "run")[-1]["evaluation"]


def test_a_process_group_of_its_own_is_gone_afterwards():
    with unchanged_process():
        join_ranks("cpu", ParallelConfig(fsdp=True))
        assert dist.is_initialized()
    assert not dist.is_initialized()


@pytest.mark.parametrize("error", [KeyboardInterrupt, UserError, RuntimeError])
def test_so_it_is_where_the_run_fails(recipe, error):
    def report(line):
        random.seed(3)
        os.environ["CHANGED"] = "1"
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise error("stop")

    before = process_state()
    with pytest.raises(error):
        train(recipe, report=report)
    assert process_state() == before


def test_numbers_do_not_depend_on_the_callers_seeds(tmp_path, recipe):
    result = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        random.seed(seed)
        result.append(train(recipe, overrides=(f"output={tmp_path / str(seed)}",), report=lambda line: None))
    assert result[0] == result[1]


def test_mistakes_are_named(recipe):
    with pytest.raises(UserError, match="config must be a path or what load_config returns, got a dict"):
        train({"kind": "vae"})
    with pytest.raises(UserError, match="overrides go with the path"):
        train(load_config(recipe), overrides=("loop.steps=1",))


@pytest.mark.parametrize("package", [hunyuan_video.training, hunyuan_video.data])
def test_every_exported_name_is_there(package):
    assert all(getattr(package, name).__name__ == name for name in package.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = package.nothing


def test_the_documented_example_runs(request, tmp_path, monkeypatch, capsys):
    if not (TINY / "sampling.json").exists():
        pytest.skip("the bundled checkpoint is not in this tree, and its encoders are needed")
    page = (request.config.rootpath / "docs/training/flow.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.S)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TINY", str(TINY))
    names = {}
    exec(compile(code, "flow.md", "exec"), names)
    assert names["metrics"]["validation_loss"] > 0
    assert "12 clips" in capsys.readouterr().out
    assert [line["step"] for line in read_log(tmp_path / "run") if "evaluation" in line] == [4, 6]
