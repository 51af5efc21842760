"""A run that is continued with other settings: refused, told, or nobody's business."""

import dataclasses
import json

import pytest
import torch
from helpers.small_transformer import SmallTask

from hunyuan_video.errors import UserError
from hunyuan_video.training.config import EncodedFlowRun, LoopConfig, LoRAConfig, OptimizerConfig, StepDistillationRun
from hunyuan_video.training.loop import train

LOOP = LoopConfig(steps=2, batch=2, save_every=1, sheet_every=0, precision="fp32")
RUN = EncodedFlowRun(lora=LoRAConfig(rank=4, alpha=4.0), data="data")


def go_on(folder, config, loop=LOOP, optimizer=None, contents="abc"):
    """The notes of a run, continued where there is one, and its task."""
    task, lines = SmallTask(2), []
    task.config, task.contents = config, contents
    train(task, loop, optimizer or OptimizerConfig(), folder, True, lines.append)
    return [line for line in lines if line.startswith("note")], task


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lora": LoRAConfig(rank=4, alpha=16.0)}, "lora.alpha was 4.0 when the run began and is 16.0 now"),
        ({"lora": LoRAConfig(rank=4, alpha=4.0, targets=("x",))}, r"lora.targets was \[\]"),
        ({"image_condition": "token_replace"}, 'image_condition was ""'),
        ({"model": {"rope_theta": 10.0}}, "model was {}"),
    ],
)
def test_what_the_weights_depend_on_is_refused(tmp_path, changes, words):
    go_on(tmp_path, RUN)
    kept = (tmp_path / "resolved.json").read_text()
    with pytest.raises(UserError, match=f"{words}.*set it back, or start a new run from the export"):
        go_on(tmp_path, dataclasses.replace(RUN, **changes), dataclasses.replace(LOOP, steps=3))
    assert (tmp_path / "resolved.json").read_text() == kept
    assert go_on(tmp_path, RUN)[0] == []


def test_another_method_is_refused(tmp_path):
    go_on(tmp_path, StepDistillationRun(rank=8))
    with pytest.raises(UserError, match="rank was 8 when"):
        go_on(tmp_path, StepDistillationRun(rank=4))


def test_other_changes_are_told(tmp_path):
    go_on(tmp_path, RUN)
    changed = dataclasses.replace(RUN, data="elsewhere", text_dropout=0.5)
    notes, _ = go_on(tmp_path, changed, optimizer=OptimizerConfig(lr=0.5), contents="abd")
    assert [note.split(" ")[1] for note in notes] == [f"{tmp_path}:", "data", "optimizer.lr", "text_dropout"]
    assert 'data was "data" when the run began and is "elsewhere" now' in notes[1]
    assert go_on(tmp_path, changed, optimizer=OptimizerConfig(lr=0.5), contents="abd")[0] == []


def test_a_longer_run_goes_on_without_a_word_as_if_it_had_been_that_long(tmp_path):
    optimizer = OptimizerConfig(decay=1e-9, warmup_steps=0)  # the rate does not depend on the length
    go_on(tmp_path / "run", RUN, optimizer=optimizer)
    longer = dataclasses.replace(LOOP, steps=4, keep=3, log_every=1, sheet_every=4)
    notes, task = go_on(tmp_path / "run", dataclasses.replace(RUN, workers=0, sample_steps=3), longer, optimizer)
    assert notes == []
    _, whole = go_on(tmp_path / "whole", RUN, longer, optimizer)
    pairs = zip(task.network.parameters(), whole.network.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_runs_of_earlier_versions_go_on(tmp_path):
    go_on(tmp_path, RUN)
    (tmp_path / "resolved.json").unlink()
    assert go_on(tmp_path, dataclasses.replace(RUN, data="x"))[0] == []
    before = json.loads((tmp_path / "resolved.json").read_text())
    del before["data"], before["optimizer"]["lr"]  # a version without these settings
    (tmp_path / "resolved.json").write_text(json.dumps(before))
    assert go_on(tmp_path, RUN, optimizer=OptimizerConfig(lr=9.0))[0] == []
