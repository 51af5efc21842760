"""Step caches against what they stand for, written out from the blocks' own inputs and outputs."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers.tiny_models import TINY, randomized

from hunyuan_video.models import HunyuanVideoTransformer
from hunyuan_video.models.transformer.step_cache import StepCache, relative_change

LEVELS = (1.0, 0.9, 0.75, 0.5, 0.3)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(3)
    return randomized(HunyuanVideoTransformer(TINY))


def run(model, seen=None):
    """Evaluations of two rows that drift from noise to something else; seen: gets (before, after, all) of each."""
    generator = torch.Generator().manual_seed(5)
    start, end = (torch.randn(2, 4, 2, 4, 6, generator=generator) for _ in range(2))
    text, pooled = torch.randn(2, 3, 24, generator=generator), torch.randn(2, 20, generator=generator)
    handles = []
    if seen is not None:
        first = model.double_blocks[0]
        handles.append(first.register_forward_hook(lambda _, args, out: seen.append([args[0], out[0]])))
        handles.append(model.final_layer.register_forward_pre_hook(lambda _, args: seen[-1].append(args[0])))
    velocities = []
    with torch.no_grad():
        for level in LEVELS:
            x, times = torch.lerp(end, start, 0.5 * level), torch.full((2,), 1000 * level)
            guidance = {"guidance": torch.full((2,), 6000.0)} if model.config.guidance_embed else {}
            if (
                cache := next((layer for layer in model.executor.layers if isinstance(layer, StepCache)), None)
            ) is not None:
                cache.begin(0, level, free=level < 1)
            velocities.append(model(x, times, text=text, pooled_text=pooled, **guidance))
    for handle in handles:
        handle.remove()
    return velocities


def cached(model, cache):
    twin = copy.copy(model)
    twin.executor = model.executor.adding(cache)
    return twin


def expected(seen, threshold, linear):
    """All blocks' results with a cache, and which evaluations it skips."""
    results, skipped, change, added = [], [], None, []
    for level, (before, after, whole) in zip(LEVELS, seen, strict=True):
        now = after - before
        if (
            change is not None
            and max(((now - change).abs().mean((1, 2)) / change.abs().mean((1, 2))).tolist()) <= threshold
        ):
            prediction = added[-1][1]
            if linear and len(added) > 1:
                (l0, a0), (l1, a1) = added[-2:]
                prediction = a1 + (a1 - a0) * (level - l1) / (l1 - l0)
            results.append(after + prediction)
            skipped.append(level)
            continue
        change = now
        added.append((level, whole - after))
        results.append(whole)
    return results, skipped


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.4, 0.8, 1.0])
def test_what_the_other_blocks_add_is_what_they_added(model, linear, share):
    """At thresholds between the least and the largest change that there is."""
    whole = []
    exact = run(model, whole)
    assert all(torch.equal(a, b) for a, b in zip(exact, run(model), strict=True))
    changes = [
        float(relative_change(now[1] - now[0], last[1] - last[0]).max())
        for last, now in zip(whole, whole[1:], strict=False)
    ]
    threshold = min(changes) * 0.99 + share * (max(changes) * 3 - min(changes))
    wanted, skipped = expected(whole, threshold, linear)
    seen, cache = [], StepCache(threshold, linear)
    run(cached(model, cache), seen)
    assert (cache.reused, cache.computed) == (len(skipped), len(LEVELS) - 1 - len(skipped))
    assert cache.reused == 0 if share == 0 else cache.reused > 0
    for got, want in zip(seen, wanted, strict=True):
        assert (got[2] - want).abs().max() <= 1e-5 * want.abs().max()


def test_the_row_that_changes_most_decides():
    now, last = torch.ones(2, 3, 4), torch.ones(2, 3, 4)
    now[1] += 0.5
    assert relative_change(now, last).tolist() == [0, 0.5]
    assert relative_change(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2)).isnan().all()


def test_batches_have_memories_of_their_own_and_a_state_continues(model):
    cache = StepCache(10.0)
    twin = cached(model, cache)
    first = run(twin)
    assert cache.reused == len(LEVELS) - 1
    other = StepCache(10.0)
    other.load_state({name: tensor.clone() for name, tensor in cache.state().items()})
    assert (other.reused, other.computed, other.least) == (cache.reused, cache.computed, cache.least)
    cache.begin(1, 0.5, free=True)
    assert cache._memory.change is None
    assert torch.equal(run(cached(model, other))[0], first[0])  # the first level is never free: computed again


@pytest.mark.parametrize("name", ["counts", "0.change", "0.added.0", "0.level.0"])
def test_a_state_without_one_of_its_tensors_is_refused(model, name):
    cache = StepCache(0.5)
    run(cached(model, cache))
    state = cache.state()
    del state[name]
    with pytest.raises(ValueError, match="not the state of a cache"):
        StepCache(0.5).load_state(state)
