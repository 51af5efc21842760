"""Progressive stages: what a stage draws, captions, a run through two stages, and its resume."""

import json
import random
import threading
from collections import Counter
from dataclasses import replace

import pytest
import torch
from helpers.small_parts import MODEL

from hunyuan_video.data.captions import Captioner, compose
from hunyuan_video.errors import UserError
from hunyuan_video.models import HunyuanVideoTransformer
from hunyuan_video.models.grid import Grid
from hunyuan_video.training.config import StageConfig, StagesRun, load_config
from hunyuan_video.training.run import run
from hunyuan_video.training.tasks import flow_staged as stages
from hunyuan_video.training.tasks.flow import FlowTask

STAGES = [
    {"name": "image", "steps": 3, "anchors": [16, 32], "max_tokens": 4, "max_batch": 2},
    {"name": "video", "steps": 4, "anchors": [16], "frames": [5], "images": 0.25, "max_tokens": 4, "max_batch": 2,
     "optimizer": {"lr": 0.0}},
]  # fmt: skip


def quiet(line):
    pass


@pytest.fixture
def recipe(tmp_path):
    content = {"kind": "stages", "output": str(tmp_path / "run"), "model": MODEL, "aspects": ["1:1"], "stages": STAGES,
               "loop": {"micro_batches": 2, "log_every": 1, "save_every": 1, "sheet_every": 0},
               "optimizer": {"lr": 1e-3, "warmup_steps": 1}, "sample_steps": 1, "eval_prompts": 2}  # fmt: skip
    path = tmp_path / "stages.yaml"
    path.write_text(json.dumps(content))
    return path


def weights(folder):
    return HunyuanVideoTransformer.from_pretrained(folder / "export").state_dict()


def test_two_stages_and_a_resumed_one(tmp_path, recipe, monkeypatch):
    lines = []
    run(recipe, report=lines.append)
    image, video = (tmp_path / "run" / name for name in ("01_image", "02_video"))
    assert (video / "sheets/step_000004.mp4").stat().st_size > 0 and (image / "sheets/step_000003.png").exists()
    # A rate of 0: the second stage keeps what it started with, the average of the first.
    assert lines[-2].startswith(f"weights: {video}/export; newest sheet: {video}/sheets/step_000004.")
    assert lines[-1].startswith("to sample it, join it with its text encoders and VAE")
    first, second = weights(image), weights(video)
    assert all(torch.allclose(first[name], second[name], atol=1e-6) for name in first)
    assert json.loads((video / "checkpoints/step_0000004/run.json").read_text())["extra"]["step"] == 4

    lines = []
    run(recipe, resume=True, report=lines.append)
    assert lines[:2] == ["== 01_image: finished", "== 02_video: finished"] and len(lines) == 4

    log = [json.loads(line) for line in (image / "log.jsonl").read_text().splitlines()]
    whole = [line["loss"] for line in log if "loss" in line]
    loss = FlowTask.loss

    def stops(task, step, generator):
        if step == 2:
            raise KeyboardInterrupt
        return loss(task, step, generator)

    monkeypatch.setattr(FlowTask, "loss", stops)
    with pytest.raises(KeyboardInterrupt):
        run(recipe, overrides=(f"output={tmp_path / 'again'}",), report=quiet)
    monkeypatch.undo()
    config = load_config(recipe, (f"output={tmp_path / 'again'}",))
    stages.execute(replace(config, stages=config.stages[:1]), True, quiet)
    log = [json.loads(line) for line in (tmp_path / "again/01_image/log.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in log if "loss" in line] == whole
    again = weights(tmp_path / "again/01_image")
    assert all(torch.equal(first[name], again[name]) for name in first)


class Source:
    """Notes who reads what; step by step, two parts each."""

    contents = ""

    def __init__(self, fails_at=None):
        self.read, self.fails_at = [], fails_at

    def samples(self, draw, rng):
        if len(self.read) == self.fails_at:
            raise UserError("the disk is gone")
        self.read.append((draw, rng.random(), threading.current_thread() is threading.main_thread()))
        text = {"text": torch.ones(1, 3, 128), "text_mask": torch.ones(1, 3), "pooled_text": torch.ones(1, 96)}
        return torch.full((1, 16, 1, 2, 2), float(draw.start)), text, 0


def stage_task(source, workers, monkeypatch):
    monkeypatch.setattr(stages, "open_data", lambda *args: source)
    stage = StageConfig(steps=4, anchors=(16, 32), max_tokens=4, max_batch=2)
    model = {**MODEL, "in_channels": 16, "out_channels": 16}
    config = StagesRun(model=model, aspects=("1:1",), workers=workers, stages=(stage,))
    return FlowTask(config, stages.StagedData(config, stage), quiet)


def losses(task, steps):
    result, positions = [], []
    for step in steps:
        for part in range(2):
            task.begin(step, part, 2)
            result.append(task.loss(step, torch.Generator().manual_seed(step))[0].item())
        positions.append(task.extra_state())
    return result, positions


def test_the_next_step_is_read_ahead_and_the_position_is_this_steps(monkeypatch):
    now, ahead, again = Source(), Source(), Source()
    whole = losses(stage_task(now, 0, monkeypatch), range(4))
    task = stage_task(ahead, 1, monkeypatch)
    losses_of_two, positions = losses(task, range(2))
    task.data.batches.pool.shutdown(wait=True)
    assert (losses_of_two, positions) == (whole[0][:4], whole[1][:2])
    assert len(ahead.read) == 6 and not any(main for *_, main in ahead.read)  # both parts of the third step
    assert {read[:2] for read in ahead.read} == {read[:2] for read in now.read[:6]} and all(r[2] for r in now.read)
    resumed = stage_task(again, 1, monkeypatch)
    resumed.load_extra_state(positions[1])
    assert losses(resumed, range(2, 4)) == (whole[0][4:], whole[1][2:])
    assert len(again.read) == 4  # nothing behind the last step


def test_what_a_reading_thread_raises_ends_the_run(monkeypatch):
    task = stage_task(Source(fails_at=3), 1, monkeypatch)
    assert len(losses(task, range(1))[0]) == 2
    with pytest.raises(UserError, match="the disk is gone"):
        losses(task, range(1, 2))


def test_groups_of_a_mixed_stage():
    config = StagesRun(aspects=("1:1", "2:1"))
    mixed = stages.groups_of(config, StageConfig(anchors=(32, 64)), Grid())
    assert [group.share for group in mixed] == [0.5, 0.5] and all(b.frames == 1 for g in mixed for b in g.buckets)
    stage = StageConfig(anchors=(32,), frames=(5, 9), images=0.2, image_anchors=(32, 64))
    video = stages.groups_of(config, stage, Grid())
    assert [group.share for group in video] == pytest.approx([0.8, 0.1, 0.1])
    assert [len(group.buckets) for group in video] == [4, 2, 2]


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        ({"images": 1.0}, "images must be a share"),
        ({"anchors": (32, 64), "anchor_shares": (1.0,)}, "1 anchor_shares for 2 anchors"),
        ({"frames": ()}, "at least one"),
        ({"frames": (6,)}, "4k"),
    ],
)
def test_mistakes_in_a_stage_are_named(stage, words):
    with pytest.raises(UserError, match=words):
        stages.groups_of(StagesRun(), StageConfig(**stage), Grid())


def test_no_stage_at_all_is_a_mistake(recipe):
    with pytest.raises(UserError, match="stages: give at least one"):
        run(recipe, overrides=("stages=[]",))


def test_mistakes_in_the_file_name_the_stage(recipe):
    with pytest.raises(UserError, match=r"stages\[0\]: steps must be int, got 'many'"):
        load_config(recipe, ("stages=[{steps: many}]",))
    with pytest.raises(UserError, match=r"stages\[1\]: unknown key 'anchor'"):
        load_config(recipe, ("stages=[{}, {anchor: 3}]",))
    with pytest.raises(UserError, match=r"stages\[0\]: loop: unknown key 'stesp'"):
        run(recipe, overrides=("stages=[{loop: {stesp: 3}}]",), report=quiet)
    with pytest.raises(UserError, match="toyworld:nowhere must be one of"):
        run(recipe, overrides=("data=toyworld:nowhere",), report=quiet)
    with pytest.raises(UserError, match="hunyuan-video encode"):
        run(recipe, overrides=("data=nowhere",), report=quiet)


def test_fields_are_dropped_and_permuted():
    fields = {name: name.upper() for name in "abcdef"}
    rng = random.Random(0)
    texts = [json.loads(compose(fields, rng, 0.5)) for _ in range(600)]
    assert all(text and all(fields[name] == value for name, value in text.items()) for text in texts)
    kept = Counter(name for text in texts for name in text)
    assert all(250 < kept[name] < 350 for name in fields)
    assert len({next(iter(text)) for text in texts}) == 6 and len({len(text) for text in texts}) >= 5
    assert len(json.loads(compose(fields, rng, 1.0))) == 1 and len(json.loads(compose(fields, rng, 0.0))) == 6


def test_captions_are_dropped_structured_and_plain_at_their_rates():
    from hunyuan_video.data.toyworld import WORLDS

    rng = random.Random(1)
    captioner = Captioner(0.2, 0.5, 0.5)
    captions = [captioner(WORLDS["narrow"].scene(index), rng) for index in range(500)]
    assert 70 < captions.count("") < 130
    assert 150 < sum(text.startswith("{") for text in captions) < 250
    wide = [captioner(WORLDS["wide"].scene(index), rng) for index in range(200)]
    assert len(set(wide)) > 100 and 20 < sum(text.startswith("{") for text in wide) < 120
    with pytest.raises(UserError, match="field_dropout must be at least 0 and at most 1"):
        Captioner(field_dropout=2.0)
