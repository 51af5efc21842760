"""One rank or several: the same losses, the same weights; saved on two ranks, continued on one."""

import dataclasses
import json
import time

import pytest
import torch
from helpers.several_ranks import on_ranks
from helpers.small_transformer import CONFIG, SmallTask
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from hunyuan_video.distributed.config import ParallelConfig
from hunyuan_video.distributed.ranks import Ranks, average_gradients, join_ranks
from hunyuan_video.distributed.ulysses import install
from hunyuan_video.errors import UserError
from hunyuan_video.models import HunyuanVideoTransformer
from hunyuan_video.training.config import LoopConfig, OptimizerConfig
from hunyuan_video.training.loop import train
from hunyuan_video.training.muon import scaled_updates
from hunyuan_video.training.parallelize import deal

LOOP = {"steps": 3, "batch": 4, "micro_batches": 2, "save_every": 2, "sheet_every": 0, "log_every": 1}
OPTIMIZER = OptimizerConfig(lr=1e-2, warmup_steps=2, ema=0.5)


def quiet(line):
    pass


def losses(rank, folder, parallel, resume=False, steps=3, precision="fp32"):
    """The losses of a run, from its log."""
    loop = LoopConfig(**{**LOOP, "steps": steps}, precision=precision, parallel=ParallelConfig(**parallel))
    train(SmallTask(2), loop, OPTIMIZER, folder, resume, quiet)
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone") / "run"
    return folder, losses(0, folder, {})


def distance(first, second):
    """Distance of two exported transformers, relative to the distance that training moved the weights."""
    start = flat(SmallTask(2).network)
    a, b = (flat(HunyuanVideoTransformer.from_pretrained(folder / "export")) for folder in (first, second))
    return ((a - b).norm() / (a - start).norm()).item()


def flat(network):
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


@pytest.mark.parametrize(
    "parallel",
    [{}, {"fsdp": True}, {"sequence": 2}, {"fsdp": True, "sequence": 2, "recompute": "blocks"}],
    ids=["replicated", "fsdp", "sequence", "fsdp-sequence"],
)
def test_two_ranks_repeat_the_run_of_one(tmp_path, alone, parallel):
    # 2 heads; 3 * 1 * 3 = 9 video tokens, which 2 ranks cannot share evenly
    folder = tmp_path / "run"
    two = on_ranks(2, losses, folder, parallel)[0]
    assert two == pytest.approx(alone[1], rel=1e-4)
    assert distance(alone[0], folder) < 0.1  # AdamW turns rounding of gradients near zero into steps


class ExportsSlowly(SmallTask):
    def export(self, folder):
        time.sleep(2)
        super().export(folder)


def sees_the_export(rank, folder):
    train(ExportsSlowly(2), LoopConfig(**LOOP), OPTIMIZER, folder, False, quiet)
    return (folder / "export").exists()


def test_no_rank_goes_on_before_the_export_is_there(tmp_path):
    """The next stage starts from it, on every rank."""
    assert on_ranks(2, sees_the_export, tmp_path / "run") == [True, True]


def gradients(rank, heads, frames, image_condition):
    """Largest relative error of a parameter's gradient between one loss without and with the tokens split."""
    sizes = {"hidden_size": 48, "num_heads": heads, "rope_dims": (48 // heads - 12, 6, 6)}
    sizes["image_condition"] = image_condition
    shape = (4, frames, 2, 6)
    plain, split = (SmallTask(2, shape, noisy=False, config=dataclasses.replace(CONFIG, **sizes)) for _ in range(2))
    ranks = join_ranks("cpu", ParallelConfig(sequence=2))
    assert install(split.network, ranks.group)
    for task in (plain, split):
        torch.manual_seed(0)
        task.loss(0, torch.Generator().manual_seed(0))[0].backward()
    average_gradients(split.network, ranks.count)
    pairs = [(a.grad, b.grad) for a, b in zip(plain.network.parameters(), split.network.parameters(), strict=True)]
    return max(((a - b).norm() / a.norm().clamp(min=1e-4)).item() for a, b in pairs)


@pytest.mark.parametrize(
    ("heads", "frames", "image_condition"),
    [(2, 3, ""), (3, 1, ""), (4, 2, ""), (2, 3, "token_replace"), (2, 1, "token_replace"), (2, 2, "token_replace")],
)
def test_split_tokens_have_the_same_gradients(heads, frames, image_condition):
    assert max(on_ranks(2, gradients, heads, frames, image_condition)) < 1e-4


def test_only_a_transformer_can_be_split():
    assert not install(torch.nn.Linear(2, 2), None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"parallel": ParallelConfig(sequence=2)}, "sequence = 2 must divide the number of ranks, 1"),
        ({"parallel": ParallelConfig(offload_optimizer=True)}, "needs loop.parallel.fsdp"),
        ({"device": "tpu"}, "cpu or cuda"),
    ],
)
def test_wrong_layouts_are_named(change, words):
    with pytest.raises(UserError, match=words):
        join_ranks(**{"device": "cpu", "parallel": ParallelConfig(), **change})


def test_micro_batches_are_dealt_out_evenly():
    assert deal(LoopConfig(batch=8), Ranks(1, 4)).micro_batch == 2
    assert deal(LoopConfig(batch=8), Ranks(1, 4, sequence=2)).micro_batches == 2
    assert deal(LoopConfig(batch=8, micro_batches=8), Ranks(1, 4)).micro_batch == 1
    with pytest.raises(UserError, match="multiple of the 4 data ranks"):
        deal(LoopConfig(batch=8, micro_batches=2), Ranks(0, 4))
    with pytest.raises(UserError, match="batch = 6 must be a multiple of the 4"):
        deal(LoopConfig(batch=6), Ranks(0, 4))


def continued(rank, folder, parallel, resume):
    return losses(rank, folder, parallel, resume, 3 if resume else 2)


def test_a_run_saved_on_two_ranks_continues_on_one(tmp_path, alone):
    folder = tmp_path / "run"
    on_ranks(2, continued, folder, {"fsdp": True}, False)
    assert losses(0, folder, {}, True) == pytest.approx(alone[1], rel=1e-4)


def test_bf16_with_sharded_weights_stays_near_float32(tmp_path, alone):
    half = on_ranks(2, losses, tmp_path / "run", {"fsdp": True}, False, 3, "bf16")[0]
    assert half == pytest.approx(alone[1], rel=0.05)


def muon(rank):
    """Updates of a sharded matrix and convolution, gathered, and those of the same tensors on one rank."""
    mesh = init_device_mesh("cpu", (2,))
    pairs = []
    for shape in ((6, 10), (5, 3, 2, 2)):
        tensor = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        update = scaled_updates([distribute_tensor(tensor, mesh, [Shard(0)])])[0]
        pairs.append((update.full_tensor().numpy(), scaled_updates([tensor])[0].numpy(), update.to_local().shape[0]))
    return pairs


def test_muon_updates_of_sharded_weights_are_those_of_whole_ones():
    first, second = on_ranks(2, muon)
    for left, right in zip(first, second, strict=True):
        assert (left[0] == left[1]).all() and (right[0] == right[1]).all()
        assert left[2] + right[2] == len(left[0]) and left[2] > 0 and right[2] > 0
