"""A layer that somebody has changed gives what it would give when called, on every path and at every size."""

import copy
from functools import partial

import pytest
import torch
from helpers.small_parts import MODEL
from torch import nn
from torch.nn.utils import parametrizations, parametrize
from torch.utils._pytree import tree_map

from hunyuan_video.models import CausalVAE, HunyuanVideoTransformer, TransformerConfig, VAEConfig
from hunyuan_video.models.plain import first_unlike, is_plain
from hunyuan_video.sampling.decode import automatic_mode

# Latents: layer by layer, and beyond STREAM_LATENTS and, in the second upsampling, SMALL_VOLUME.
SMALL, LARGE = (1, 4, 2, 2, 2), (1, 4, 3, 9, 9)


class Twice(torch.Tensor):
    """A weight whose values are computed when it is used: twice those inside, as quantized weights of libraries are."""

    @staticmethod
    def __new__(cls, inside):
        return torch.Tensor._make_wrapper_subclass(cls, inside.shape, dtype=inside.dtype, device=inside.device)

    def __init__(self, inside):
        self.inside = inside

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        def values(x):
            return 2 * x.inside if isinstance(x, cls) else x

        if function is torch.ops.aten.detach.default:
            return cls(args[0].inside)
        return function(*tree_map(values, args), **tree_map(values, kwargs or {}))


class Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight


def subclassed(layer):
    kind = type(layer)
    layer.__class__ = type(
        f"My{kind.__name__}", (kind,), {"forward": lambda self, *a, **k: 2 * kind.forward(self, *a, **k)}
    )


def replaced(layer):
    forward = layer.forward
    layer.forward = lambda *args, **named: 2 * forward(*args, **named)


def normalized(layer):
    parametrizations.weight_norm(layer)
    with torch.no_grad():
        layer.parametrizations.weight.original0.mul_(2)


def tensor_subclass(layer):
    layer.weight = nn.Parameter(Twice(layer.weight.detach()), requires_grad=False)


def old_weight_norm(layer):
    with pytest.warns(FutureWarning):
        nn.utils.weight_norm(layer)
    with torch.no_grad():
        layer.weight_g.mul_(2)


# Each makes a layer without a bias give twice its product.
DOUBLINGS = {
    "forward hook": lambda layer: layer.register_forward_hook(lambda module, args, out: 2 * out),
    "hook with keywords": lambda layer: layer.register_forward_hook(
        lambda module, args, named, out: 2 * out, with_kwargs=True
    ),
    "forward pre-hook": lambda layer: layer.register_forward_pre_hook(lambda module, args: (2 * args[0], *args[1:])),
    "subclass": subclassed,
    "forward of the instance": replaced,
    "parametrization": lambda layer: parametrize.register_parametrization(layer, "weight", Doubled()),
    "weight norm": normalized,
    "weight norm, by hooks": old_weight_norm,
    "tensor subclass": tensor_subclass,
}
LAYERS = {
    "decoder.conv_in.conv": nn.Conv3d,
    "decoder.mid_block.resnets.0.conv1.conv": nn.Conv3d,
    "decoder.mid_block.attentions.0.to_q": nn.Linear,
    "decoder.up_blocks.1.upsamplers.0.conv.conv": nn.Conv3d,
    "decoder.conv_out.conv": nn.Conv3d,
}


def noise(size=LARGE):
    return torch.randn(size, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(3)
    config = VAEConfig(latent_channels=4, block_out_channels=(4, 4, 4, 4), layers_per_block=1, norm_groups=2)
    return CausalVAE(config).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def transformer():
    torch.manual_seed(4)
    model = HunyuanVideoTransformer(TransformerConfig(**MODEL, in_channels=4, out_channels=4)).eval()
    for parameter in model.requires_grad_(False).parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def pair(network, name, change):
    """Two copies of a network: one layer changed; and the same layer with twice the weight."""
    changed, doubled = copy.deepcopy(network), copy.deepcopy(network)
    for one in (changed, doubled):
        one.get_submodule(name).bias.zero_()
    doubled.get_submodule(name).weight.mul_(2)
    change(changed.get_submodule(name))
    return changed, doubled


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("change", DOUBLINGS)
def test_changed_layers_of_the_vae(vae, change, size):
    latents = noise(size)
    plain = vae.decode(latents)
    for name in LAYERS:
        changed, doubled = pair(vae, name, DOUBLINGS[change])
        want = doubled.decode(latents)
        assert (want - plain).abs().max() > 1e-3, name
        torch.testing.assert_close(
            changed.decode(latents), want, atol=1e-4, rtol=1e-3, msg=lambda text, n=name: n + text
        )
        with pytest.raises(ValueError, match=f"{name.removeprefix('decoder.')}.*(hooks|forward|weights|is a)"):
            changed.decode(latents, mode="exact")
        assert automatic_mode(changed, torch.zeros(1, 4, 5, 64, 64), torch.device("cpu")) == "tiled"
    assert automatic_mode(vae, torch.zeros(1, 4, 5, 64, 64), torch.device("cpu")) == "exact"


@pytest.mark.parametrize("name", ["decoder.mid_block.resnets.1.conv1", "decoder.up_blocks.1.upsamplers.0.conv"])
@pytest.mark.parametrize("change", ["forward hook", "forward pre-hook", "subclass", "forward of the instance"])
def test_changed_convolutions_with_their_padding(vae, change, name):
    for size in (SMALL, LARGE):
        latents = noise(size)
        changed, doubled = copy.deepcopy(vae), copy.deepcopy(vae)
        for one in (changed, doubled):
            one.get_submodule(f"{name}.conv").bias.zero_()
        doubled.get_submodule(f"{name}.conv").weight.mul_(2)
        DOUBLINGS[change](changed.get_submodule(name))
        torch.testing.assert_close(changed.decode(latents), doubled.decode(latents), atol=1e-4, rtol=1e-3)


def prediction(model, dtype):
    generator = torch.Generator().manual_seed(2)

    def draw(*shape):
        return torch.randn(shape, generator=generator).to(dtype)

    return model.to(dtype)(draw(1, 4, 3, 8, 8), torch.tensor([400.0]), text=draw(1, 6, 128),
                           text_mask=torch.ones(1, 6, dtype=torch.bool), pooled_text=draw(1, 96)).float()  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("change", DOUBLINGS)
def test_changed_linears_of_the_transformer(transformer, change, dtype):
    tolerance = {"atol": 1e-4, "rtol": 1e-3} if dtype == torch.float32 else {"atol": 0.1, "rtol": 0.1}
    plain = prediction(copy.deepcopy(transformer), dtype)
    names = [
        name for name, module in transformer.named_modules() if type(module) is nn.Linear and "refiner" not in name
    ]
    assert len(names) > 12
    for name in names:
        changed, doubled = pair(transformer.to(dtype), name, DOUBLINGS[change])
        want = prediction(doubled, dtype)
        assert not torch.equal(want, plain), name
        torch.testing.assert_close(prediction(changed, dtype), want, **tolerance, msg=lambda text, n=name: n + text)
    transformer.float()


def both_networks(vae, transformer):
    return (vae, lambda n: n.decode(noise())), (transformer, lambda n: prediction(n, torch.float32))


def test_backward_hooks_are_called(vae, transformer):
    for network, run in both_networks(vae, transformer):
        network = copy.deepcopy(network).requires_grad_(True)
        seen = []
        names = LAYERS if isinstance(network, CausalVAE) else ["double_blocks.0.img_attn_proj"]
        for name in names:
            note = partial(seen.append, name)
            network.get_submodule(name).register_full_backward_hook(lambda module, inner, outer, call=note: call())
        run(network).square().sum().backward()
        assert sorted(seen) == sorted(names)


def test_compiled_submodules_run_compiled(vae):
    changed, calls = copy.deepcopy(vae), []

    def backend(graph, inputs):
        calls.append(1)
        return graph.forward

    latents = noise()
    changed.decoder.mid_block.resnets[0].conv1.compile(backend=backend)
    torch.testing.assert_close(changed.decode(latents), vae.decode(latents), atol=1e-5, rtol=1e-4)
    assert calls


def test_layers_of_peft(vae, transformer):
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, target_modules=r".*(conv1\.conv|upsamplers\.0\.conv\.conv|fc1|img_attn_qkv|linear2)",
                             init_lora_weights=False)  # fmt: skip
    for network, run in both_networks(vae, transformer):
        changed = peft.inject_adapter_in_model(config, copy.deepcopy(network))
        got = run(changed)
        for module in changed.modules():
            if isinstance(module, peft.tuners.lora.LoraLayer):
                module.merge()
        assert (got - run(network)).abs().max() > 1e-2
        torch.testing.assert_close(got, run(changed), atol=1e-3, rtol=1e-2)


def test_hooks_on_all_modules_are_seen(vae):
    seen = []
    handle = nn.modules.module.register_module_forward_hook(lambda module, args, out: seen.append(type(module)))
    try:
        vae.decode(noise())
    finally:
        handle.remove()
    assert seen.count(nn.Conv3d) + seen.count(nn.Linear) > 3 and first_unlike(vae.decoder.conv_in.conv, nn.Conv3d) == ""


def test_hooks_where_nothing_is_called_are_refused(transformer):
    changed = copy.deepcopy(transformer)
    changed.single_blocks[0].q_norm.register_forward_hook(lambda module, args, out: out)
    with pytest.raises(TypeError, match="hooks on the norm of queries or keys"):
        prediction(changed, torch.float32)


def test_what_is_plain():
    layer = nn.Linear(2, 2)
    assert is_plain(layer, nn.Conv3d, nn.Linear) and not is_plain(layer, nn.Conv3d)
    handle = layer.register_forward_hook(lambda *args: None)
    assert not is_plain(layer, nn.Linear)
    handle.remove()
    assert is_plain(layer, nn.Linear)
