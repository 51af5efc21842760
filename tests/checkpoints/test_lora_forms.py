"""Strength and form of adapter files against independent computations: by hand, and PEFT's merge where installed."""

import json
import math

import pytest
import torch
from safetensors.torch import save_file

from hunyuan_video.checkpoints.lora import adapter_summary, load_adapter
from hunyuan_video.errors import Notice, UserError
from hunyuan_video.models import HunyuanVideoTransformer, TransformerConfig
from hunyuan_video.models.fp8 import FP8Linear, convert_to_fp8_modules
from hunyuan_video.models.lora import lora_layers, merge_adapters, remove_adapters, set_adapters, unmerge_adapters

CONFIG = TransformerConfig(
    hidden_size=32, num_heads=2, double_blocks=1, single_blocks=1, in_channels=4, out_channels=4, rope_dims=(4, 6, 6),
    text_dim=8, pooled_text_dim=6, guidance_embed=False, refiner_depth=1,
)  # fmt: skip
QKV, LINEAR1, FINAL = "double_blocks.0.img_attn_qkv", "single_blocks.0.linear1", "final_layer.adaLN_modulation.1"
QUERY_NORM = "double_blocks.0.img_attn_q_norm"


def make() -> HunyuanVideoTransformer:
    torch.manual_seed(0)
    model = HunyuanVideoTransformer(CONFIG).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return model


def draw(*shape: int, seed: int = 1) -> torch.Tensor:
    return 0.3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def changed(path, weight: float = 1.0) -> dict[str, torch.Tensor]:
    """Parameter -> its change by the merged adapter of a file; unchanged ones are left out."""
    before = make().state_dict()
    model = load_adapter(make(), path, weight=weight)
    merge_adapters(model)
    after = remove_adapters(model, keep_merged=True).state_dict()
    assert after.keys() == before.keys()
    return {name: after[name] - value for name, value in before.items() if not torch.equal(after[name], value)}


def close(result: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert result.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(result[name], value, rtol=1e-4, atol=1e-6)


def pair_file(path, tensors=None, header=None, prefix="transformer."):
    a, b = draw(4, 32), draw(96, 4, seed=2)
    path.parent.mkdir(exist_ok=True)
    entries = {f"{prefix}{QKV}.lora_A.weight": a, f"{prefix}{QKV}.lora_B.weight": b}
    save_file(entries | (tensors or {}), path, header)
    return path, b @ a


def header(**values):
    return {"format": "pt", "lora_adapter_metadata": json.dumps({f"transformer.{k}": v for k, v in values.items()})}


@pytest.mark.parametrize(
    ("metadata", "scale"),
    [
        (header(r=4, lora_alpha=8), 2.0),
        (header(r=4, lora_alpha=8, use_rslora=True), 4.0),
        (header(r=4, lora_alpha=8, alpha_pattern={"img_attn_qkv": 1}), 0.25),
        (header(r=4, lora_alpha=8, alpha_pattern={"double_blocks.1.img_attn_qkv": 1, "attn_qkv": 3}), 2.0),
        (header(r=16, lora_alpha=8, rank_pattern={r"double_blocks\.\d+\..*": 4}), 2.0),
        (header(r=4), 2.0),  # PEFT's default alpha is 8
        ({"transformer.r": "4", "transformer.lora_alpha": "2"}, 0.5),
        ({"r": "4", "lora_alpha": "6", "use_rslora": "True"}, 3.0),
        ({"ss_network_alpha": "2.0", "ss_network_dim": "4"}, 1.0),  # names are not kohya's: alpha is in the weights
        (header(r=4, lora_alpha=8) | {"ss_network_alpha": "1"}, 2.0),
        ({"format": "pt"}, 1.0),
    ],
)
def test_alpha_of_the_header(tmp_path, metadata, scale):
    path, product = pair_file(tmp_path / "x.safetensors", header=metadata)
    close(changed(path), {f"{QKV}.weight": scale * product})
    assert f"strength {scale:g}" in adapter_summary(path)


@pytest.mark.parametrize("alpha", [torch.tensor(2), torch.tensor([2], dtype=torch.int32), torch.tensor(2.0).double(),
                                   torch.tensor([[2.0]]).half()])  # fmt: skip
def test_alpha_of_a_layer_comes_first_whatever_its_type(tmp_path, alpha):
    path, product = pair_file(
        tmp_path / "x.safetensors", {f"transformer.{QKV}.alpha": alpha}, header(r=4, lora_alpha=8)
    )
    close(changed(path, weight=0.5), {f"{QKV}.weight": 0.25 * product})


def test_alpha_of_kohya_headers_and_of_peft_configs(tmp_path):
    a, b = draw(4, 32), draw(96, 4, seed=2)
    flat = "lora_unet_" + QKV.replace(".", "_")
    save_file({f"{flat}.lora_down.weight": a, f"{flat}.lora_up.weight": b}, tmp_path / "k.safetensors",
              {"ss_network_alpha": "2.0", "ss_network_dim": "4"})  # fmt: skip
    close(changed(tmp_path / "k.safetensors"), {f"{QKV}.weight": 0.5 * b @ a})
    path, product = pair_file(tmp_path / "peft" / "adapter_model.safetensors", prefix="base_model.model.")
    (tmp_path / "peft" / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 12}))
    close(changed(path), {f"{QKV}.weight": 3 * product})


@pytest.mark.parametrize(
    ("config", "message"),
    [({"peft_type": "OFT"}, "peft_type is OFT"), ({"r": 4, "lora_alpha": "x"}, "lora_alpha is 'x'"),
     ({"r": 4, "init_lora_weights": "pissa_niter_4"}, "pissa_niter_4"), ({"use_dora": True}, "no magnitudes"),
     ({"alpha_pattern": {"(": 2}}, "no regular expression"), ([], "holds a JSON list")],
)  # fmt: skip
def test_configs_that_cannot_be_honored_are_one_line(tmp_path, config, message):
    path, _ = pair_file(tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=message) as error:
        load_adapter(make(), path)
    assert "\n" not in str(error.value)


def test_another_rank_than_the_header_says_is_told(tmp_path):
    path, product = pair_file(tmp_path / "x.safetensors", header=header(r=16, lora_alpha=8))
    with pytest.warns(Notice, match="rank 16"):
        close(changed(path), {f"{QKV}.weight": 2 * product})


def test_biases_norms_and_whole_weights(tmp_path):
    base, whole, conv = make().state_dict(), draw(16, 32, seed=8), draw(32, 4, 1, 2, 2, seed=9)
    tensors = {
        "diffusion_model.double_blocks.0.img_attn.qkv.diff_b": draw(96, seed=3),
        "diffusion_model.double_blocks.0.img_attn.norm.query_norm.scale.diff": draw(16, seed=4),
        "diffusion_model.single_blocks.0.linear2.diff": draw(32, 160, seed=5),
        "diffusion_model.final_layer.linear.set_weight": whole,
        "diffusion_model.img_in.proj.diff": conv,
        "diffusion_model.txt_in.individual_token_refiner.blocks.0.norm1.b_norm": draw(32, seed=6),
    }
    path, product = pair_file(tmp_path / "x.safetensors", tensors)
    close(
        changed(path, weight=0.5),
        {
            f"{QKV}.weight": 0.5 * product,
            f"{QKV}.bias": 0.5 * draw(96, seed=3),
            f"{QUERY_NORM}.weight": 0.5 * draw(16, seed=4),
            "single_blocks.0.linear2.weight": 0.5 * draw(32, 160, seed=5),
            "final_layer.linear.weight": 0.5 * (whole - base["final_layer.linear.weight"]),
            "img_in.proj.weight": 0.5 * conv,
            "txt_in.individual_token_refiner.blocks.0.norm1.bias": 0.5 * draw(32, seed=6),
        },
    )


def test_loha_lokr_and_convolutions(tmp_path):
    b1, a1, b2, a2 = draw(96, 2), draw(2, 32, seed=2), draw(96, 2, seed=3), draw(2, 32, seed=4)
    w1, c, d = draw(4, 2), draw(56, 3, seed=2), draw(3, 16, seed=3)
    down, up = draw(3, 4, 1, 2, 2, seed=5), draw(32, 3, 1, 1, 1, seed=6)
    flat = f"lycoris_{QKV.replace('.', '_')}"
    save_file(
        {f"{flat}.hada_w1_a": b1, f"{flat}.hada_w1_b": a1, f"{flat}.hada_w2_a": b2, f"{flat}.hada_w2_b": a2,
         f"{flat}.alpha": torch.tensor(1.0), f"diffusion_model.{LINEAR1}.lokr_w1": w1,
         f"diffusion_model.{LINEAR1}.lokr_w2_a": c, f"diffusion_model.{LINEAR1}.lokr_w2_b": d,
         f"diffusion_model.{LINEAR1}.alpha": torch.tensor(6), "diffusion_model.img_in.proj.lora_down.weight": down,
         "diffusion_model.img_in.proj.lora_up.weight": up}, tmp_path / "x.safetensors",
    )  # fmt: skip
    expected = {
        f"{QKV}.weight": 0.5 * (b1 @ a1) * (b2 @ a2),
        f"{LINEAR1}.weight": 2 * torch.kron(w1, c @ d),
        "img_in.proj.weight": torch.einsum("nr,rctyx->nctyx", up[:, :, 0, 0, 0], down),
    }
    close(changed(tmp_path / "x.safetensors"), expected)
    summary = adapter_summary(tmp_path / "x.safetensors")
    assert "LoHa" in summary and "LoKr" in summary and "LoRA" in summary and "3 layers" in summary


def dora(weight, change, magnitude, over):
    full = weight + change
    return full * magnitude / full.norm(dim=over, keepdim=True) - weight


@pytest.mark.parametrize("columns", [False, True])
def test_dora_rescales_the_result(tmp_path, columns):
    magnitude = 1 + draw(*((1, 32) if columns else (96, 1)), seed=7).abs()
    path, product = pair_file(tmp_path / "x.safetensors", {f"transformer.{QKV}.dora_scale": magnitude},
                              header(r=4, lora_alpha=2))  # fmt: skip
    weight = make().state_dict()[f"{QKV}.weight"]
    expected = dora(weight, 0.5 * product, magnitude, 0 if columns else 1)
    close(changed(path), {f"{QKV}.weight": expected})
    close(changed(path, weight=0.3), {f"{QKV}.weight": 0.3 * expected})


def test_parts_of_a_fused_weight_in_other_forms(tmp_path):
    """diffusers' to_q as DoRA, to_v as a difference, to_k not at all; biases of parts; the exchanged halves."""
    prefix = "transformer.transformer_blocks.0.attn"
    a, b, magnitude, value = draw(4, 32), draw(32, 4, seed=2), 1 + draw(32, seed=3).abs(), draw(32, 32, seed=4)
    final, bias = draw(64, 32, seed=5), draw(64, seed=6)
    save_file({f"{prefix}.to_q.lora_A.weight": a, f"{prefix}.to_q.lora_B.weight": b,
               f"{prefix}.to_q.lora_magnitude_vector": magnitude, f"{prefix}.to_v.diff": value,
               f"{prefix}.to_k.diff_b": draw(32, seed=7), "transformer.norm_out.linear.diff": final,
               "transformer.norm_out.linear.diff_b": bias}, tmp_path / "x.safetensors")  # fmt: skip
    weight = make().state_dict()[f"{QKV}.weight"][:32]
    zero = torch.zeros(32)
    close(
        changed(tmp_path / "x.safetensors"),
        {
            f"{QKV}.weight": torch.cat((dora(weight, b @ a, magnitude[:, None], 1), torch.zeros(32, 32), value)),
            f"{QKV}.bias": torch.cat((zero, draw(32, seed=7), zero)),
            f"{FINAL}.weight": torch.cat((final[32:], final[:32])),
            f"{FINAL}.bias": torch.cat((bias[32:], bias[:32])),
        },
    )


def forward(model):
    generator = torch.Generator().manual_seed(1)
    text, pooled = torch.randn(1, 5, 8, generator=generator), torch.randn(1, 6, generator=generator)
    latents = torch.randn(1, 4, 2, 4, 4, generator=generator)
    with torch.no_grad():
        return model(latents, torch.tensor([500.0]), text=text, text_mask=torch.ones(1, 5), pooled_text=pooled)


def test_live_merged_unmerged_and_removed(tmp_path):
    tensors = {f"transformer.{QKV}.dora_scale": 1 + draw(96, 1, seed=7).abs(), f"transformer.{QKV}.diff_b": draw(96),
               f"transformer.{QUERY_NORM}.diff": draw(16), f"transformer.{LINEAR1}.hada_w1_a": draw(224, 2),
               f"transformer.{LINEAR1}.hada_w1_b": draw(2, 32), f"transformer.{LINEAR1}.hada_w2_a": draw(224, 2),
               f"transformer.{LINEAR1}.hada_w2_b": draw(2, 32)}  # fmt: skip
    path, _ = pair_file(tmp_path / "x.safetensors", tensors)
    model, plain = make(), forward(make())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    load_adapter(load_adapter(model, path, "a", 0.7), path, "b", 0.3)
    live = forward(model)
    assert (live - plain).abs().max() > 1e-3
    merge_adapters(model)
    torch.testing.assert_close(forward(model), live, rtol=1e-4, atol=1e-5)
    set_adapters(model, {})
    assert torch.equal(forward(model), plain)
    set_adapters(model, {"a": 1.0})
    alone = forward(model)
    torch.testing.assert_close(alone, live, rtol=1e-4, atol=1e-5)  # 0.7 + 0.3 of the same change
    merge_adapters(model)
    unmerge_adapters(model)
    assert torch.equal(forward(model), alone)
    after = remove_adapters(model).state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[name], value) for name, value in before.items())


def test_forms_beside_fp8_weights_change_what_those_stand_for(tmp_path):
    magnitude, change = 1 + draw(96, 1, seed=7).abs(), draw(32, 160, seed=5)
    path, product = pair_file(tmp_path / "x.safetensors", {f"transformer.{QKV}.dora_scale": magnitude,
                              "transformer.single_blocks.0.linear2.diff": change})  # fmt: skip
    model = load_adapter(convert_to_fp8_modules(make()), path)
    merge_adapters(model)  # leaves them beside the FP8 weights
    layers = dict(lora_layers(model))
    x = draw(3, 160, seed=9)
    base = layers["single_blocks.0.linear2"].base_layer
    assert isinstance(base, FP8Linear)
    with torch.no_grad():
        difference = layers["single_blocks.0.linear2"](x) - base(x)
        torch.testing.assert_close(difference, x @ change.T, rtol=1e-4, atol=1e-5)
        layer, x = layers[QKV], x[:, :32]
        decoded = layer.base_layer.weight.float() * layer.base_layer.scale
        expected = x @ dora(decoded, product, magnitude, 1).T
        torch.testing.assert_close(layer(x) - layer.base_layer(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({f"diffusion_model.{QKV}.lora_A.weight": draw(4, 32)}, "two changes of one weight"),
        ({f"transformer.{QKV}.diff": draw(96, 32)}, "two changes of one weight"),
        ({"transformer.transformer_blocks.0.attn.to_q.diff": draw(32, 32)}, "twice, as"),
        ({f"transformer.{LINEAR1}.hada_w1_a": draw(224, 2)}, "only some of the factors of a LoHa"),
        ({f"transformer.{LINEAR1}.oft_blocks": draw(4, 8, 8)}, "orthogonal adapter"),
        ({f"transformer.{LINEAR1}.hada_t1": draw(4, 8, 1, 1)}, "Tucker"),
        ({f"transformer.{QUERY_NORM}.diff": draw(15)}, r"a weight \[15\]"),
        ({f"transformer.{QUERY_NORM}.diff_b": draw(16)}, "has none there"),
        ({f"transformer.{QKV}.diff_b": draw(95)}, "bias of 95 values"),
        ({f"transformer.{QKV}.dora_scale": draw(95, 1)}, "magnitude"),
        ({f"transformer.{LINEAR1}.dora_scale": draw(224, 1)}, "without its low-rank pair"),
        ({f"transformer.{LINEAR1}.diff": draw(223, 32)}, r"takes \[224, 32\]"),
        ({f"transformer.{QKV}.alpha": torch.tensor([1.0, 2.0])}, "alpha is one"),
        ({f"transformer.{QKV}.alpha": torch.tensor(math.inf)}, "no finite numbers"),
    ],
)
def test_what_cannot_be_honored_is_refused_by_name(tmp_path, tensors, message):
    path, _ = pair_file(tmp_path / "x.safetensors", tensors)
    model = make()
    with pytest.raises(UserError, match=message) as error:
        load_adapter(model, path)
    assert "\n" not in str(error.value) and "x.safetensors" in str(error.value)
    assert not list(lora_layers(model)) and torch.equal(forward(model), forward(make()))


def test_a_whole_checkpoint_is_no_adapter(tmp_path):
    make().save_pretrained(tmp_path / "x.safetensors")
    with pytest.raises(UserError, match="--model, not as --adapter"):
        load_adapter(make(), tmp_path / "x.safetensors")


def test_parts_for_text_encoders_are_told(tmp_path):
    tensors = {"lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": draw(2, 8),
               "text_encoder.layers.0.mlp.lora_A.weight": draw(2, 8)}  # fmt: skip
    path, product = pair_file(tmp_path / "x.safetensors", tensors)
    with pytest.warns(Notice, match="2 entries of a text encoder"):
        close(changed(path), {f"{QKV}.weight": product})


@pytest.mark.parametrize(
    "prefix",
    ["diffusion_model.", "model.diffusion_model.", "transformer.", "transformer.transformer.", "model.", "module.",
     "base_model.model.", "base_model.model.transformer.", "_orig_mod.", "lora_unet_", "lora_transformer_",
     "lora_unet_lora_unet_", "Hunyuan_video_I2V_lora_", "lycoris_"],
)  # fmt: skip
def test_every_prefix(tmp_path, prefix):
    a, b = draw(4, 32), draw(96, 4, seed=2)
    name = prefix + (QKV if prefix.endswith(".") else QKV.replace(".", "_"))
    save_file({f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": b}, tmp_path / "x.safetensors")
    close(changed(tmp_path / "x.safetensors"), {f"{QKV}.weight": b @ a})


def test_pickled_adapters(tmp_path):
    a, b = draw(4, 32), draw(96, 4, seed=2)
    torch.save({f"{QKV}.lora_A.weight": a, f"{QKV}.lora_B.weight": b}, tmp_path / "pytorch_lora_weights.bin")
    close(changed(tmp_path / "pytorch_lora_weights.bin"), {f"{QKV}.weight": b @ a})


TARGETS = [QKV, LINEAR1, "final_layer.linear", "single_blocks.0.linear2"]


@pytest.mark.parametrize("form", ["lora", "rslora", "dora", "pattern", "bias", "loha", "lokr", "lokr full"])
def test_what_peft_saves_is_what_peft_merges(tmp_path, form):
    peft = pytest.importorskip("peft")
    common = {"r": 4, "target_modules": TARGETS, "init_weights": False}
    low_rank = {"r": 4, "target_modules": TARGETS, "init_lora_weights": False, "lora_alpha": 6}
    configs = {
        "lora": lambda: peft.LoraConfig(**low_rank),
        "rslora": lambda: peft.LoraConfig(**low_rank, use_rslora=True),
        "dora": lambda: peft.LoraConfig(**low_rank, use_dora=True),
        "pattern": lambda: peft.LoraConfig(**low_rank, rank_pattern={"linear1": 2}, alpha_pattern={"linear[12]": 3}),
        "bias": lambda: peft.LoraConfig(**low_rank, lora_bias=True),
        "loha": lambda: peft.LoHaConfig(**common, alpha=2),
        "lokr": lambda: peft.LoKrConfig(**common, alpha=2, decompose_factor=2),
        "lokr full": lambda: peft.LoKrConfig(**common | {"r": 64}, alpha=16),
    }
    torch.manual_seed(3)
    theirs = peft.get_peft_model(make(), configs[form]())
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "magnitude" in name:
                parameter.mul_(1 + 0.3 * torch.rand_like(parameter))
            elif "lora_B" in name and name.endswith("bias"):
                parameter.normal_()
    theirs.save_pretrained(tmp_path)
    merged = theirs.merge_and_unload().state_dict()
    model = load_adapter(make(), tmp_path / "adapter_model.safetensors")
    merge_adapters(model)
    ours = remove_adapters(model, keep_merged=True).state_dict()
    base = make().state_dict()
    assert any(not torch.equal(base[name], value) for name, value in ours.items())
    for name, value in merged.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-5, msg=name)
