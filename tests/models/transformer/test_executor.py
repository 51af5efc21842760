"""The executor of the transformer's blocks: layers in their fixed order, and what they may change."""

import copy
import random

import pytest
import torch
from helpers.small_transformer import CONFIG, SmallTask

import hunyuan_ext as ops
from hunyuan_video.models.transformer.executor import ORDER, PLAIN, BlockExecutor, Layer, Recompute

BLOCKS = CONFIG.refiner_depth + CONFIG.double_blocks + CONFIG.single_blocks


class Noting(Layer):
    """Notes when it is entered."""

    def __init__(self, place, notes):
        self.place, self.notes = place, notes

    def all_blocks(self, run, img, *args, **kwargs):
        self.notes.append(f"{self.place} all")
        return run(img, *args, **kwargs)

    def around(self, run):
        return self._noting("around", run)

    def inside(self, run):
        return self._noting("inside", run)

    def attention(self, attention):
        return self._noting("attention", attention)

    def _noting(self, what, run):
        def noted(*args, **kwargs):
            self.notes.append(f"{self.place} {what}")
            return run(*args, **kwargs)

        return noted


def loss(network):
    task = SmallTask(2, noisy=False)
    network.load_state_dict(task.network.state_dict())
    task.network = network
    return task.loss(0, torch.Generator().manual_seed(0))[0]


@pytest.fixture
def network():
    return SmallTask(2, noisy=False).network


def test_layers_run_in_the_fixed_order_however_they_are_added(network):
    plain = loss(network)
    places, notes = list(ORDER), []
    random.Random(3).shuffle(places)
    assert places != list(ORDER)
    for place in places:
        network.executor = network.executor.adding(Noting(place, notes))
    assert torch.equal(loss(network), plain)
    whole, first = notes.index("tokens all"), notes[: 2 * len(ORDER)]
    assert first == [f"{place} {what}" for what in ("around", "inside") for place in ORDER]  # of a refiner block
    assert notes[whole : whole + len(ORDER)] == [f"{place} all" for place in ORDER]
    for what, count in (("around", BLOCKS), ("inside", BLOCKS), ("attention", BLOCKS - CONFIG.refiner_depth)):
        assert [note for note in notes if note.endswith(what)] == [f"{place} {what}" for place in ORDER] * count


def test_a_layer_may_leave_a_block_out(network):
    """Skips a block as a step cache does: here the last block returns its input."""

    class Skips(Layer):
        place = "steps"

        def around(self, run):
            last = network.single_blocks[-1]
            return lambda block, *args: args[0] if block is last else run(block, *args)

    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.1, generator=torch.Generator().manual_seed(parameter.numel()))
    shorter = copy.deepcopy(network)
    del shorter.single_blocks[-1]
    text = {"text": torch.randn(1, 3, CONFIG.text_dim), "pooled_text": torch.randn(1, CONFIG.pooled_text_dim)}
    latents, times = torch.randn(1, CONFIG.in_channels, 2, 4, 4), torch.tensor([500.0])
    whole = network(latents, times, **text)
    network.executor = PLAIN.adding(Skips())
    skipped = network(latents, times, **text)
    assert torch.equal(skipped, shorter(latents, times, **text)) and not torch.equal(skipped, whole)


def test_one_layer_for_each_place(network):
    network.gradient_checkpointing = True
    network.gradient_checkpointing = True
    assert [layer.place for layer in network.executor.layers] == ["activations", "chunks"]
    network.gradient_checkpointing = False
    assert [layer.place for layer in network.executor.layers] == ["chunks"] and not network.gradient_checkpointing
    assert PLAIN.layers == () and PLAIN.attention is ops.rope_attention
    with pytest.raises(ValueError, match="nowhere"):
        BlockExecutor([Noting("nowhere", [])])


def test_a_copied_network_recomputes_its_own_blocks(network):
    network.executor = PLAIN.adding(Recompute([network.double_blocks[0]]))
    twin = copy.deepcopy(network)
    (layer,) = twin.executor.layers
    assert layer.blocks == {twin.double_blocks[0]}
    calls = []
    twin.double_blocks[0].img_mlp.register_forward_hook(lambda *_: calls.append(1))
    loss(twin).backward()
    assert len(calls) == 2
