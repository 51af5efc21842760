"""The comparison of two checkouts sees every difference of their files but how fast a run was."""

from __future__ import annotations

import importlib.util
import json
import sys

import pytest
import torch
from safetensors.torch import save_file

if importlib.util.find_spec("benchmarks.same_outputs") is None:
    pytest.skip("needs the benchmarks beside the tests", allow_module_level=True)

from benchmarks import output_cases, same_outputs
from hunyuan_video.training.config import load_config


@pytest.fixture
def folders(tmp_path):
    """Two folders with the same files in them."""
    made = []
    for name in ("this", "other"):
        folder = tmp_path / name / "run"
        folder.mkdir(parents=True)
        save_file({"w": torch.arange(4.0), "b": torch.zeros(2)}, folder / "a.safetensors", {"about": '{"steps": 3}'})
        lines = [{"step": 1, "loss": 0.5, "steps_per_s": len(name)}, {"step": 2, "evaluation": {"psnr": 20.0}}]
        (folder / "log.jsonl").write_text("\n".join(map(json.dumps, lines)))
        (folder / "shard.tar").write_bytes(b"shard")
        (folder / ".metadata").write_text(name)
        made.append(folder.parent)
    return made


def found(folders) -> str:
    return same_outputs.verdict(same_outputs.differences(*folders))


def test_equal_but_for_speed(folders):
    assert found(folders) == "equal"


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"w": torch.tensor([0.0, 1.0, 2.25, 3.0]), "b": torch.zeros(2)}, "1 values differ, most by 0.25 in w"),
        ({"w": torch.arange(4.0), "b": torch.zeros(2) * -1.0}, "1 values differ, most by 0 in b"),
        ({"w": torch.arange(4.0).bfloat16(), "b": torch.zeros(2)}, "w is torch.bfloat16"),
        ({"w": torch.arange(4.0)}, "b is in one alone"),
    ],
)
def test_tensors(folders, tensors, message):
    save_file(tensors, folders[0] / "run/a.safetensors", {"about": '{"steps": 3}'})
    assert f"a.safetensors: {message}" in found(folders)


def test_metadata_logs_bytes_and_absent_files(folders):
    save_file(
        {"w": torch.arange(4.0), "b": torch.zeros(2)}, folders[0] / "run/a.safetensors", {"about": '{"steps": 4}'}
    )
    assert "metadata about steps is 4 and 3" in found(folders)
    log = folders[0] / "run/log.jsonl"
    log.write_text(log.read_text().replace("20.0", "20.5"))
    assert "log.jsonl: 1 values differ, most by 0.5 in 1 evaluation psnr" in found(folders)
    (folders[0] / "run/shard.tar").write_bytes(b"other")
    (folders[0] / "run/more").touch()
    assert "run/more: only in this checkout" in found(folders) and "; and 1 more" in found(folders)


def test_nothing_written_is_no_equality(tmp_path):
    assert same_outputs.verdict(same_outputs.differences(tmp_path / "a.mp4", tmp_path / "b.mp4")).startswith(
        "DIFFERENT"
    )


def test_recipes_are_recipes_and_every_case_has_one(tmp_path):
    output_cases.write_recipes(tmp_path)
    kinds = {load_config(path).kind for path in tmp_path.glob("*.yaml")}
    assert kinds == {
        "flow", "flow_encoded", "stages", "vae", "vae_stages", "guidance_distillation", "step_distillation", "text",
        "bundle",
    }  # fmt: skip
    cases = list(output_cases.cases())
    assert len({case.name for case in cases}) == len(cases) and sum(case.quick for case in cases) == 5
    assert {*same_outputs.CONTINUED, *same_outputs.RESUMED} <= {case.name for case in cases}


def test_a_checkout_without_an_environment_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="make install"):
        same_outputs.main([str(tmp_path)])


def test_an_environment_of_another_tree_is_refused(tmp_path):
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").symlink_to(sys.executable)
    with pytest.raises(SystemExit, match="imports hunyuan_ext from|No module named"):
        same_outputs.Checkout(tmp_path, tmp_path).origin()
