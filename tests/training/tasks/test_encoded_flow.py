"""Training on an encoded data set: order of buckets and clips, resume, validation, bad configurations."""

import json

import pytest
import torch
import yaml
from helpers.small_parts import MODEL

from hunyuan_video.cli import main
from hunyuan_video.errors import UserError
from hunyuan_video.models import HunyuanVideoTransformer
from hunyuan_video.training.config import EncodedFlowRun, build
from hunyuan_video.training.loop import train
from hunyuan_video.training.tasks.flow_encoded import BucketOrder, encoded_flow


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("encoded") / "set"
    arguments = ["encode", "toyworld:narrow", "-o", str(path), "--clips", "24", "--captions", "2"]
    if main([*arguments, "--bucket", "5x16x16", "--bucket", "1x32x32"]) != 0:
        pytest.skip("the bundled checkpoint is not in this tree, and its encoders are needed")
    return path


def settings(data, tmp_path, **changes):
    loop = {"steps": 6, "batch": 4, "log_every": 1, "save_every": 3, "sheet_every": 0, "precision": "fp32"}
    return {"kind": "flow_encoded", "output": str(tmp_path / "run"), "data": str(data), "model": MODEL, "held_out": 2,
            "sample_steps": 2, "optimizer": {"warmup_steps": 1}, **changes,
            "loop": {**loop, **changes.get("loop", {})}}  # fmt: skip


def test_order_gives_every_bucket_its_share_and_counts():
    order = BucketOrder({"a": 3, "b": 1}, 400, seed=1)
    drawn = [order.at(step) for step in range(400)]
    assert 250 < sum(name == "a" for name, _ in drawn) < 350
    for bucket in "ab":
        earlier = [number for name, number in drawn if name == bucket]
        assert earlier == list(range(len(earlier)))


def test_a_run_trains_validates_and_resumes_exactly(data, tmp_path):
    path = tmp_path / "flow.yaml"
    path.write_text(yaml.safe_dump(settings(data, tmp_path)))
    assert main(["train", str(path)]) == 0
    lines = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert "validation_loss" in lines[-1]["evaluation"]
    assert list((tmp_path / "run/sheets").glob("*.png"))
    whole = HunyuanVideoTransformer.from_pretrained(tmp_path / "run/export").state_dict()
    cut = settings(data, tmp_path, output=str(tmp_path / "cut"), workers=0)
    config = build(EncodedFlowRun, cut, "test")

    class Stop(Exception):
        pass

    task = encoded_flow(config, tmp_path / "cut", lambda line: None)
    real, calls = task.loss, []

    def loss(step, generator):
        calls.append(step)
        if step == 4:
            raise Stop
        return real(step, generator)

    task.loss = loss
    with pytest.raises(Stop):
        train(task, config.loop, config.optimizer, tmp_path / "cut", False, lambda line: None)
    path.write_text(yaml.safe_dump(cut))
    assert main(["train", str(path), "--resume"]) == 0
    again = HunyuanVideoTransformer.from_pretrained(tmp_path / "cut/export").state_dict()
    assert all(torch.equal(whole[name], again[name]) for name in whole)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"weights": {"9x9x9": 1}}, "no bucket"), ({"weights": {"5x16x16": 0}}, "above it"),
     ({"held_out": 99}, "leaves nothing"),
     ({"checkpoint": "nowhere"}, "nowhere")],
)  # fmt: skip
def test_bad_configurations_say_what_to_do(data, tmp_path, changes, message):
    config = build(EncodedFlowRun, settings(data, tmp_path, **changes), "test")
    with pytest.raises(UserError, match=message):
        encoded_flow(config, tmp_path, lambda line: None)
