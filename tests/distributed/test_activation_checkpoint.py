"""Recomputed and offloaded activations: the same gradients, other memory."""

import dataclasses

import pytest
import torch
from helpers.small_transformer import CONFIG, SmallTask
from torch.autograd.graph import saved_tensors_hooks

from hunyuan_video.distributed import activation_checkpoint
from hunyuan_video.distributed.config import ParallelConfig
from hunyuan_video.errors import UserError


def trained(parallel, config=CONFIG):
    """Gradients of one loss, and how many bytes autograd kept for them."""
    task = SmallTask(2, noisy=False, config=config)
    activation_checkpoint.install(task.network, parallel)
    kept = []

    def pack(tensor):
        kept.append(tensor.nbytes)
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = task.loss(0, torch.Generator().manual_seed(0))[0]
    loss.backward()
    return [parameter.grad for parameter in task.network.parameters()], sum(kept)


@pytest.fixture(scope="module")
def plain():
    return trained(ParallelConfig())


@pytest.mark.parametrize("mode", ["blocks", "selective"])
def test_recomputed_blocks_have_the_same_gradients_and_keep_less(plain, mode):
    gradients, kept = trained(ParallelConfig(recompute=mode))
    for a, b in zip(plain[0], gradients, strict=True):
        torch.testing.assert_close(a, b)
    every_second, more = trained(ParallelConfig(recompute=mode, recompute_every=2))
    assert kept < more < plain[1]


@pytest.mark.parametrize("mode", ["none", "blocks"])
def test_offloaded_activations_give_the_same_gradients(plain, monkeypatch, mode):
    moved = []
    monkeypatch.setattr(activation_checkpoint, "_moves", lambda tensor: moved.append(tensor.nbytes) or True)
    gradients, _ = trained(ParallelConfig(recompute=mode, offload_activations=True))
    for a, b in zip(plain[0], gradients, strict=True):
        torch.testing.assert_close(a, b)
    assert len(moved) > 5


@pytest.mark.parametrize("parallel", [{"recompute": "selective"}, {"recompute": "blocks", "offload_activations": True}])
def test_image_to_video_blocks_can_be_recomputed(parallel):
    """Their clean frame's condition is one more tensor that gradients go to."""
    config = dataclasses.replace(CONFIG, image_condition="token_replace")
    for a, b in zip(trained(ParallelConfig(), config)[0], trained(ParallelConfig(**parallel), config)[0], strict=True):
        torch.testing.assert_close(a, b)


def test_weights_are_not_offloaded(monkeypatch):
    monkeypatch.setattr(activation_checkpoint, "_moves", lambda tensor: True)
    weight = torch.ones(4)
    assert (
        activation_checkpoint._pack({weight.untyped_storage().data_ptr()}, weight[:2])[1].data_ptr()
        == weight.data_ptr()
    )
    assert activation_checkpoint._pack(set(), weight)[1].data_ptr() != weight.data_ptr()


@pytest.mark.parametrize(
    ("parallel", "words"),
    [
        ({"recompute": "all"}, "none, blocks, selective"),
        ({"recompute_every": 0}, "at least 1"),
        ({"recompute": "selective", "offload_activations": True}, "not with selective"),
    ],
)
def test_mistakes_are_named(parallel, words):
    with pytest.raises(UserError, match=words):
        activation_checkpoint.install(torch.nn.Linear(1, 1), ParallelConfig(**parallel))
