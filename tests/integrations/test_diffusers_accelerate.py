"""accelerate: diffusers' own classes with our blocks and VAE give what they give alone, whatever hangs on them."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch

diffusers = pytest.importorskip("diffusers")

from helpers.small_diffusers import (  # noqa: E402
    as_dtype,
    call,
    distance,
    drawn,
    forward_arguments,
    parts,
    pipeline,
    transformer,
    vae,
)

import hunyuan_ext as ops  # noqa: E402
from hunyuan_video.errors import ArgumentError  # noqa: E402
from hunyuan_video.integrations.diffusers import accelerate, restore  # noqa: E402

KINDS = (None, "latent_concat", "token_replace")


@pytest.fixture
def attentions(monkeypatch):
    """Counts the calls of our attention."""
    counted, plain = [], ops.rope_attention

    def attention(*args, **kwargs):
        counted.append(args[0].shape)
        return plain(*args, **kwargs)

    monkeypatch.setattr(ops, "rope_attention", attention)
    return counted


@torch.no_grad()
def velocity(pipe, kind=None, dtype=torch.float32, **changes):
    return pipe.transformer(**{**forward_arguments(kind, dtype), **changes})[0]


def same_ways(pipe, change=lambda transformer: None, **changes):
    """The outputs of diffusers alone and of ours, of two copies that are both changed in the same way."""
    alone, ours = copy.deepcopy(pipe), accelerate(copy.deepcopy(pipe))
    change(alone.transformer)
    change(ours.transformer)
    return velocity(alone, **changes), velocity(ours, **changes)


@pytest.mark.parametrize("kind", KINDS)
def test_transformer_equals_diffusers(kind, attentions):
    pipe = parts(kind)
    before, keys = velocity(pipe, kind), list(pipe.transformer.state_dict())
    assert accelerate(accelerate(pipe)) is pipe
    assert distance(velocity(pipe, kind), before) < 1e-5
    assert len(attentions) == 2 and list(pipe.transformer.state_dict()) == keys
    restore(pipe)
    assert torch.equal(velocity(pipe, kind), before) and len(attentions) == 2
    assert all(type(module).__module__.split(".")[0] != "hunyuan_video" for module in pipe.transformer.modules())


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_is_as_near_to_exact_as_diffusers(kind):
    exact, pipe = parts(kind), parts(kind, torch.bfloat16)
    exact.transformer = as_dtype(copy.deepcopy(pipe.transformer), torch.float64)
    wanted = velocity(exact, kind, torch.float64, timestep=torch.full((2,), 900.0))
    rounding = distance(velocity(pipe, kind, torch.bfloat16), wanted)
    ours = velocity(accelerate(pipe), kind, torch.bfloat16)
    assert distance(ours, wanted) < 1.1 * rounding < 0.02


def test_framepack_has_the_same_blocks(attentions):
    torch.manual_seed(0)
    sizes = dict(num_attention_heads=2, attention_head_dim=16, num_layers=1, num_single_layers=1, in_channels=4)
    sizes |= dict(out_channels=4, num_refiner_layers=1, text_embed_dim=24, pooled_projection_dim=20)
    model = diffusers.HunyuanVideoFramepackTransformer3DModel(
        rope_axes_dim=(4, 6, 6), has_image_proj=True, image_proj_dim=12, has_clean_x_embedder=True, **sizes
    )
    pipe = SimpleNamespace(transformer=model.eval(), vae=None)
    frames = torch.arange(3)
    changes = dict(
        image_embeds=drawn(2, 3, 12), indices_latents=frames, latents_clean=drawn(2, 4, 1, 4, 6),
        indices_latents_clean=frames[:1],
        latents_history_2x=drawn(2, 4, 2, 4, 6), indices_latents_history_2x=frames[:2],
        latents_history_4x=drawn(2, 4, 4, 4, 6), indices_latents_history_4x=torch.arange(4),
    )  # fmt: skip
    before = velocity(pipe, **changes)
    assert distance(velocity(accelerate(pipe), **changes), before) < 1e-5 and len(attentions) == 2


@torch.no_grad()
def test_vae_equals_diffusers_with_its_tiles():
    pipe = parts()
    latents, video = drawn(1, 4, 5, 4, 4), drawn(1, 3, 17, 32, 32)  # tiles of frames in both
    before = pipe.vae.decode(latents).sample, pipe.vae.encode(video).latent_dist.parameters
    accelerate(pipe)
    assert distance(pipe.vae.decode(latents).sample, before[0]) < 1e-5
    assert distance(pipe.vae.encode(video).latent_dist.parameters, before[1]) < 1e-5
    changed = pipe.vae.decoder.conv_in.conv.weight
    with torch.no_grad():
        changed.mul_(2)
    twice = pipe.vae.decode(latents).sample
    restore(pipe)
    assert distance(twice, pipe.vae.decode(latents).sample) < 1e-5 < distance(twice, before[0])


@torch.no_grad()
def test_vae_weights_may_be_cast_moved_and_replaced():
    pipe, latents = accelerate(parts()), drawn(1, 4, 2, 4, 4)
    other = copy.deepcopy(pipe)
    for weight in other.vae.parameters():
        weight.mul_(1.5)
    other.vae.load_state_dict({k: v.clone() for k, v in other.vae.state_dict().items()}, assign=True)
    as_dtype(other.vae, torch.float64)
    ours = other.vae.decode(latents.double()).sample
    restore(other)
    assert distance(ours, other.vae.decode(latents.double()).sample) < 1e-9
    assert pipe.vae.decoder.conv_in.conv.weight.dtype == torch.float32  # the copy has weights of its own


def add_adapter(model, name="a", scale=1.0):
    peft = pytest.importorskip("peft")
    torch.manual_seed(5)
    targets = ["to_q", "to_k", "add_v_proj", "to_out.0", "proj_mlp", "proj_out", "norm1.linear", "net.2", "net.0.proj"]
    model.add_adapter(peft.LoraConfig(r=3, lora_alpha=6, target_modules=targets, init_lora_weights=False), name)


CHANGES = {
    "adapter": add_adapter,
    "two": lambda model: [add_adapter(model), add_adapter(model, "b"), model.set_adapters(["a", "b"], [0.5, 2.0])],
    "disabled": lambda model: [add_adapter(model), model.disable_adapters()],
    "fused": lambda model: [add_adapter(model), model.fuse_lora(0.5)],
    "unloaded": lambda model: [add_adapter(model), model.unload_lora()],
}


@pytest.mark.parametrize("way", CHANGES)
def test_lora_keeps_its_effect(way, attentions):
    pipe = parts()
    alone, ours = same_ways(pipe, CHANGES[way])
    assert distance(ours, alone) < 1e-5 and len(attentions) == 2
    with_effect = way not in ("disabled", "unloaded")
    assert (distance(alone, velocity(pipe)) > 1e-2) == with_effect


def test_lora_scale_of_one_call():
    pipe = parts()
    add_adapter(pipe.transformer)
    whole, half = velocity(pipe), velocity(pipe, attention_kwargs={"scale": 0.5})
    accelerate(pipe)
    assert distance(velocity(pipe, attention_kwargs={"scale": 0.5}), half) < 1e-5 < distance(half, whole)


def sequential(model):
    pytest.importorskip("accelerate").cpu_offload(model, torch.device("cpu"))


def groups(model):
    model.enable_group_offload(torch.device("cpu"), offload_type="block_level", num_blocks_per_group=1)


def leaves(model):
    model.enable_group_offload(torch.device("cpu"), offload_type="leaf_level")


def cached(model):
    model.enable_cache(diffusers.FirstBlockCacheConfig(threshold=0.01))


@pytest.mark.parametrize("hook", [sequential, groups, leaves, cached])
@pytest.mark.parametrize("first", [True, False])
def test_hooks_before_and_after(hook, first, attentions):
    pipe = parts()
    wanted = velocity(pipe)
    if first:
        hook(pipe.transformer)
    accelerate(pipe)
    if not first:
        hook(pipe.transformer)
    with pipe.transformer.cache_context("one") if hook is cached else torch.no_grad():
        ours = velocity(pipe)
    assert distance(ours, wanted) < 1e-5
    assert len(attentions) == (2 if hook in (groups, cached) else 0)  # leaf by leaf: diffusers' own forward
    restore(pipe)
    with pipe.transformer.cache_context("two") if hook is cached else torch.no_grad():
        assert distance(velocity(pipe), wanted) < 1e-6
    assert len(attentions) == (2 if hook in (groups, cached) else 0)


def test_layerwise_casting_stays():
    def cast(model):
        model.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)

    alone, ours = same_ways(parts(), cast)
    assert distance(ours, alone) < 1e-5


def test_two_calls_with_model_offload_callback_and_restore():
    pipe = pipeline()
    steps = []

    def callback(pipe, step, timestep, tensors):
        steps.append(step)
        return {"latents": tensors["latents"] * 0.9}

    wanted = pipe(**call(callback_on_step_end=callback, output_type="pt")).frames
    accelerate(pipe).enable_model_cpu_offload(device="cpu")
    for _ in range(2):
        assert distance(pipe(**call(callback_on_step_end=callback, output_type="pt")).frames, wanted) < 1e-5
    assert steps == [0, 1] * 3
    restore(pipe)
    assert torch.equal(pipe(**call(callback_on_step_end=callback, output_type="pt")).frames, wanted)


def test_a_compiled_block_stays_compiled():
    pipe = parts()
    block = pipe.transformer.single_transformer_blocks[0]
    wanted, name = velocity(pipe), type(block).__name__
    block.compile(fullgraph=True, backend="eager")
    accelerate(pipe)
    assert distance(velocity(pipe), wanted) < 1e-5
    assert type(block).__name__ == name and block._compiled_call_impl is not None  # others choose blocks by name


def test_own_attention_of_the_user_is_called(attentions):
    pipe, calls = accelerate(parts()), []
    wanted = velocity(pipe)

    class Own(diffusers.models.transformers.transformer_hunyuan_video.HunyuanVideoAttnProcessor2_0):
        def __call__(self, attn, hidden_states, encoder_hidden_states, attention_mask, image_rotary_emb):
            calls.append(1)
            return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, image_rotary_emb)

    blocks = (*pipe.transformer.transformer_blocks, *pipe.transformer.single_transformer_blocks)
    for block in blocks:
        block.attn.set_processor(Own())
    assert distance(velocity(pipe), wanted) < 1e-5 and len(calls) == 2 == len(attentions)
    assert not any(
        block.attn.processor is other.attn.processor for block, other in zip(blocks, blocks[1:], strict=False)
    )


@pytest.mark.parametrize("checkpointing", [True, False])
def test_gradients(checkpointing):
    gradients = []
    for change in (lambda pipe: pipe, accelerate):
        pipe = change(parts())
        if checkpointing:
            pipe.transformer.enable_gradient_checkpointing()
            pipe.transformer.train()
        pipe.transformer(**forward_arguments())[0].square().mean().backward()
        gradients.append([p.grad for p in pipe.transformer.parameters()])
    for ours, wanted in zip(*gradients[::-1], strict=True):
        assert (ours is None) == (wanted is None)
        assert ours is None or (ours - wanted).norm() <= 1e-4 * wanted.norm() + 1e-7


def test_copies_have_weights_of_their_own():
    pipe = accelerate(parts())
    wanted, twin = velocity(pipe), copy.deepcopy(pipe)
    with torch.no_grad():
        for weight in pipe.transformer.parameters():
            weight.mul_(1.01)
    assert torch.equal(velocity(twin), wanted)
    restore(twin)
    assert distance(velocity(twin), wanted) < 1e-5


def test_other_models_are_refused_by_name():
    other = type("HunyuanVideo15Transformer3DModel", (torch.nn.Module,), {})()
    with pytest.raises(ArgumentError, match="HunyuanVideo15Transformer3DModel"):
        accelerate(SimpleNamespace(transformer=other, vae=vae()))
    with pytest.raises(ArgumentError, match="vae of class Linear"):
        accelerate(SimpleNamespace(transformer=transformer(), vae=torch.nn.Linear(1, 1)))
    pipe = parts()
    pipe.vae.register_to_config(norm_num_groups=3)
    with pytest.raises(ArgumentError, match="norm_groups=3"):
        accelerate(pipe)
    assert "hunyuan_video" not in {type(block).__module__ for block in pipe.transformer.transformer_blocks}
