"""The transformer, token refiner and FP8 blocks against recorded outputs of the released network."""

import pytest
import torch
from helpers.transformer_cases import golden_inputs, golden_model

import hunyuan_ext as ops
from hunyuan_video.models import HunyuanVideoTransformer, TransformerConfig
from hunyuan_video.models.fp8 import FP8Linear, convert_to_fp8_modules, fp8_linears
from hunyuan_video.models.transformer.embeddings import frequencies
from hunyuan_video.models.transformer.refiner import TokenRefiner

DIT_CASES = ["dit_video_guid", "dit_image_noguid_odd", "dit_single_text_token"]
# Cases without a tolerance of their own (refiner, FP8) are held to that of the dit cases.
TOLERANCE = {"atol": 2e-5, "rtol": 1e-4}


@pytest.mark.parametrize("name", DIT_CASES)
def test_golden_output(golden, name):
    case = golden(name)
    with torch.no_grad():
        out = golden_model(case)(**golden_inputs(case))
    torch.testing.assert_close(out, case.part("out")["x"], **case.facts["expect_tol"])


@pytest.mark.parametrize("name", DIT_CASES)
def test_golden_intermediate(golden, name):
    """Every recorded module output, on the rows that are not text padding."""
    case = golden(name)
    model, inputs, expected = golden_model(case), golden_inputs(case), case.part("mid")
    seen = record_outputs(model, {key.removesuffix(".img").removesuffix(".txt") for key in expected})
    with torch.no_grad():
        model(**inputs)
    video_tokens, counts = expected["img_in"].shape[1], inputs["text_mask"].sum(1).tolist()
    for key, want in expected.items():
        got = seen[key]
        for row, count in enumerate(counts):
            if key == "txt_in" or key.endswith(".txt"):
                valid = count
            else:
                valid = video_tokens + count if key.startswith("single_blocks") else len(want[row])
            torch.testing.assert_close(
                got[row][:valid], want[row][:valid], **case.facts["expect_tol"], msg=lambda m, key=key: f"{key}: {m}"
            )


def record_outputs(model, names) -> dict[str, torch.Tensor]:
    """A dict that fills with the outputs of the named modules in the next forward."""
    seen = {}

    def hook(name):
        def keep(_module, _args, out):
            if isinstance(out, tuple):
                seen[f"{name}.img"], seen[f"{name}.txt"] = out
            else:
                seen[name] = out

        return keep

    for name in names:
        model.get_submodule(name).register_forward_hook(hook(name))
    return seen


@pytest.mark.parametrize("name", DIT_CASES)
def test_golden_output_ignores_padded_text(golden, name):
    """Bit for bit: the recorded network's difference is 0."""
    case = golden(name)
    model, inputs = golden_model(case), golden_inputs(case)
    padding = (inputs["text_mask"] == 0)[..., None]
    with torch.no_grad():
        out = model(**inputs)
        other = model(**{**inputs, "text": torch.where(padding, 1e4 * torch.randn(()), inputs["text"])})
    assert case.facts["padding_invariance_max_abs"] == 0.0
    assert torch.equal(out, other)


def test_golden_token_refiner(golden):
    """Padded rows included: they see token 0 only."""
    case = golden("token_refiner")
    settings, given, expected = case.facts["config"], case.part("in"), case.part("out")
    refiner = TokenRefiner(settings["in_channels"], settings["hidden_size"], settings["heads_num"], settings["depth"])
    refiner.load_state_dict(case.part("weights"), strict=True)
    with torch.no_grad():
        torch.testing.assert_close(refiner(given["x"], given["t"], given["mask"]), expected["masked"], **TOLERANCE)
        torch.testing.assert_close(refiner(given["x"], given["t"]), expected["no_mask"], **TOLERANCE)
        as_bool = refiner(given["x"], given["t"], given["mask"].bool())
        as_float = refiner(given["x"], given["t"], given["mask"].float())
    torch.testing.assert_close(as_bool, expected["masked"], **TOLERANCE)
    assert torch.equal(as_bool, as_float)


def test_golden_frequencies_are_close_to_exact():
    """The machine-independent table stays within a unit in the last place of the formula's float32 steps."""
    k = torch.arange(128.0)
    exact = (-9.210340371976184 * k / 128).double().exp()
    error = (frequencies(128, torch.device("cpu")).double() - exact).abs() / exact
    assert error.max() <= 2**-24 * 1.05


@pytest.mark.parametrize("name", ["0", "1", "2"])
def test_golden_fp8_linear(golden, name):
    case = golden("fp8_linear")
    given = {key.split(".")[1]: v for key, v in case.part("in").items() if key.startswith(name)}
    expected = {key.split(".", 1)[1]: v for key, v in case.part("out").items() if key.startswith(name)}
    weight8, scale = ops.quantize_fp8(given["weight"], granularity="tensor")
    assert torch.equal(weight8.view(torch.uint8), expected["weight_fp8_bits"])
    assert torch.equal(scale.reshape(1), expected["scale"])

    layer = FP8Linear(*given["weight"].shape[::-1], "bias" in given, granularity="tensor")
    layer.load_state_dict({"weight": weight8, "scale": scale, **{k: given[k] for k in ("bias",) if k in given}})
    with torch.no_grad():
        torch.testing.assert_close(layer(given["x"]), expected["y_fp32"], **TOLERANCE)
        y_bf16 = layer(given["x"].bfloat16())
    assert y_bf16.dtype == torch.bfloat16
    # bf16 has 8 bits: the kernel may keep the dequantized weight wider than the recorded run did
    spread = expected["y_fp32"].abs().max().item()
    torch.testing.assert_close(y_bf16, expected["y_bf16"], rtol=2**-7, atol=2**-7 * spread)


def test_golden_fp8_dit(golden):
    case = golden("fp8_dit")
    model, inputs, expected = golden_model(case), golden_inputs(case), case.part("out")
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs), expected["x_fp32"], **TOLERANCE)
        convert_to_fp8_modules(model, granularity="tensor")
        assert sorted(name for name, _ in fp8_linears(model)) == sorted(case.facts["quantised_modules"])
        for name, layer in fp8_linears(model):
            assert torch.equal(layer.scale.reshape(1), case.part("in")[f"scale.{name}"])
        torch.testing.assert_close(model(**inputs), expected["x_fp8"], **TOLERANCE)


@pytest.mark.parametrize(
    ("guidance_embed", "parameters", "keys"), [(True, 12_821_012_544, 856), (False, 12_810_782_784, 852)]
)
def test_golden_13b_keys(golden_facts, guidance_embed, parameters, keys):
    with torch.device("meta"):
        model = HunyuanVideoTransformer(TransformerConfig(guidance_embed=guidance_embed))
    state = {key: list(value.shape) for key, value in model.state_dict().items()}
    assert len(state) == keys
    assert sum(p.numel() for p in model.parameters()) == parameters

    official = golden_facts("official_13b_keys")
    if not guidance_embed:
        official = {key: shape for key, shape in official.items() if not key.startswith("guidance_in.")}
    assert state == official


def test_golden_13b_fp8_set():
    """320 linears, 12,457,082,880 weights, in one byte each."""
    with torch.device("meta"):
        model = HunyuanVideoTransformer(TransformerConfig())
    convert_to_fp8_modules(model)
    converted = [layer for _, layer in fp8_linears(model)]
    assert len(converted) == 320
    assert all(isinstance(layer, FP8Linear) for layer in converted)
    assert sum(layer.weight.numel() for layer in converted) == 12_457_082_880
    assert all(layer.weight.dtype == torch.float8_e4m3fn for layer in converted)
