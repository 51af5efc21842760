"""The transformer's promises to callers: padding, batches, dtypes, gradients, compilation, clear refusals."""

import math

import pytest
import torch
from helpers.transformer_cases import tiny_config, tiny_inputs, tiny_model

from hunyuan_video.models import HunyuanVideoTransformer
from hunyuan_video.models.fp8 import FP8Linear, convert_to_fp8_modules
from hunyuan_video.models.transformer.embeddings import guidance_input, sinusoid, unpatchify
from hunyuan_video.models.transformer.model import trim_padding


@pytest.fixture
def no_trim(monkeypatch):
    """The path of a GPU: the mask's values are not read, attention skips the padding by kv_len."""
    monkeypatch.setattr("hunyuan_video.models.transformer.model.trim_padding", lambda text, mask: (text, mask))


def test_padded_text_never_shows():
    model, inputs = tiny_model(), tiny_inputs()
    out = model(**inputs)
    changed = inputs["text"].clone()
    changed[0, 3:] = 1e3
    assert torch.equal(out, model(**{**inputs, "text": changed}))
    changed[0, 2] = 1e3  # a valid token does
    assert not torch.equal(out, model(**{**inputs, "text": changed}))


def test_padded_text_never_shows_without_trimming(no_trim):
    model, inputs = tiny_model(), tiny_inputs(valid=(3, 4))
    changed = inputs["text"].clone()
    changed[0, 3:], changed[1, 4:] = 1e3, -1e3
    assert torch.equal(model(**inputs), model(**{**inputs, "text": changed}))


@pytest.mark.parametrize("valid", [(3, 5), (2, 4), (3, 3), (5, 5)])
def test_trimming_changes_nothing(valid, monkeypatch):
    model, inputs = tiny_model(), tiny_inputs(valid=valid)
    trimmed = model(**inputs)
    monkeypatch.setattr("hunyuan_video.models.transformer.model.trim_padding", lambda text, mask: (text, mask))
    torch.testing.assert_close(trimmed, model(**inputs), rtol=0, atol=1e-5)


def test_batch_is_its_samples():
    model, inputs = tiny_model(), tiny_inputs()
    both = model(**inputs)
    for row in range(2):
        alone = model(**{key: value[row : row + 1] for key, value in inputs.items()})
        torch.testing.assert_close(both[row : row + 1], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("trim", [True, False])
def test_empty_text_mask_is_finite(trim, monkeypatch):
    """The released code divides by zero in the text rows; here nothing becomes NaN."""
    if not trim:
        monkeypatch.setattr("hunyuan_video.models.transformer.model.trim_padding", lambda text, mask: (text, mask))
    model, inputs = tiny_model(), tiny_inputs(valid=(0, 5))
    changed = inputs["text"].clone()
    changed[0] = 50.0
    out = model(**inputs)
    assert out.isfinite().all()
    assert torch.equal(out, model(**{**inputs, "text": changed}))


def test_trim_padding():
    text, mask = torch.randn(2, 5, 3), torch.tensor([[1, 1, 0, 0, 0], [1, 1, 1, 0, 0]])
    kept, left = trim_padding(text, mask)
    assert torch.equal(kept, text[:, :3])
    assert left.tolist() == [[True, True, False], [True, True, True]]
    kept, left = trim_padding(text, mask[:1].expand(2, 5))
    assert torch.equal(kept, text[:, :2])
    assert left is None
    with pytest.raises(ValueError, match="prefix"):
        trim_padding(text, torch.tensor([[1, 0, 1, 0, 0], [1, 1, 1, 0, 0]]))


def test_no_mask_means_all_valid():
    model, inputs = tiny_model(), tiny_inputs(valid=(5, 5))
    assert torch.equal(model(**inputs), model(**{**inputs, "text_mask": None}))


def test_fresh_model_predicts_zero_and_blocks_are_identity():
    model = HunyuanVideoTransformer(tiny_config())
    assert model(**tiny_inputs()).abs().max() == 0
    block, tokens, vec = model.single_blocks[0], torch.randn(1, 8, 32), torch.randn(1, 32)
    assert torch.equal(block(tokens, vec, model.rope((1, 2, 3), tokens.device), 2, None), tokens)
    assert not model.single_blocks[0].linear1.weight.eq(0).any()


def test_gradients_reach_every_parameter():
    model = tiny_model()
    model(**tiny_inputs()).square().mean().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert without == []


def test_gradient_checkpointing_gives_the_same_gradients():
    model, inputs = tiny_model(), tiny_inputs()
    model(**inputs).square().mean().backward()
    plain = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    model.gradient_checkpointing = True
    model(**inputs).square().mean().backward()
    for name, p in model.named_parameters():
        assert torch.equal(p.grad, plain[name]), name


def test_bf16_and_autocast_are_close_to_fp32():
    model, inputs = tiny_model(), tiny_inputs()
    with torch.no_grad():
        exact = model(**inputs)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = model(**inputs)
        low = model.bfloat16()(**inputs)
    assert low.dtype == mixed.dtype == torch.bfloat16
    assert exact.dtype == torch.float32
    for other in (mixed, low):
        assert (other - exact).norm() / exact.norm() < 0.05


def test_attention_precision_reaches_every_block():
    model, inputs = tiny_model(), tiny_inputs()
    with torch.no_grad():
        plain = model(**inputs)
        model.set_attention_precision("bf16")
        narrow = model(**inputs)
        assert 0 < (narrow - plain).norm() / plain.norm() < 0.05
        model.set_attention_precision("int8")
        with pytest.raises(ValueError, match="int8"):
            model(**inputs)
        model.set_attention_precision("auto")
        assert torch.equal(model(**inputs), plain)


def test_meta_device_forward_has_the_shape():
    with torch.device("meta"):
        model = HunyuanVideoTransformer(tiny_config())
        out = model(**{key: value.to("meta") for key, value in tiny_inputs().items()})
    assert out.is_meta
    assert out.shape == (2, 4, 2, 4, 6)


def test_training_compiles_as_one_graph():
    model, inputs = tiny_model(), tiny_inputs()
    model(**inputs).square().mean().backward()
    plain = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    torch.compiler.reset()
    torch.compile(model, backend="aot_eager", fullgraph=True)(**inputs).square().mean().backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, plain[name], rtol=1e-4, atol=1e-5, msg=name)


def test_other_patch_sizes_and_channels():
    model = tiny_model(patch_size=(2, 1, 2), out_channels=3, mlp_ratio=2.5, refiner_depth=1, qkv_bias=False)
    assert model(**tiny_inputs()).shape == (2, 3, 2, 4, 6)
    assert model.double_blocks[0].img_attn_qkv.bias is None
    assert model.single_blocks[0].linear1.bias is not None


def test_unpatchify_inverts_patches():
    latent = torch.randn(2, 3, 4, 4, 6)
    b, c, t, h, w = latent.shape
    patches = latent.view(b, c, t // 2, 2, h // 2, 2, w // 3, 3).permute(0, 2, 4, 6, 1, 3, 5, 7)
    tokens = patches.reshape(b, 2 * 2 * 2, c * 12)
    assert torch.equal(unpatchify(tokens, (2, 2, 2), (2, 2, 3)), latent)


def test_sinusoid_is_cos_first():
    out = sinusoid(torch.tensor([0.0, 1.0]))
    assert out.shape == (2, 256)
    assert out[0].tolist() == [1.0] * 128 + [0.0] * 128
    assert out[1, 0].item() == pytest.approx(math.cos(1))
    assert out[1, 128].item() == pytest.approx(math.sin(1))


def test_guidance_rounds_in_the_model_dtype():
    assert guidance_input(6.0, torch.bfloat16).item() == 6016
    assert guidance_input(6.0, torch.float32).item() == 6000
    assert guidance_input(torch.tensor([1.0, 6.0]), torch.bfloat16).tolist() == [1000, 6016]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latents": torch.zeros(2, 3, 2, 4, 6)}, r"latents must be \[B, 4, T, h, w\]"),
        ({"latents": torch.zeros(2, 4, 4, 6)}, "latents must be"),
        ({"latents": torch.zeros(2, 4, 2, 5, 6)}, "latents h = 5 must be a positive multiple of the patch size 2"),
        ({"latents": torch.zeros(2, 4, 0, 4, 6)}, "latents T = 0"),
        ({"timestep": torch.zeros(3)}, r"timestep must have shape \[2\], got \[3\]"),
        ({"text": torch.zeros(2, 5, 11)}, r"text must be \[2, L >= 1, 12\]"),
        ({"text": torch.zeros(2, 0, 12), "text_mask": None}, "text must be"),
        ({"text_mask": torch.ones(2, 4)}, r"text_mask must have shape \[2, 5\]"),
        ({"pooled_text": torch.zeros(2, 9)}, r"pooled_text must have shape \[2, 10\]"),
        ({"guidance": torch.zeros(1)}, r"guidance must have shape \[2\]"),
        ({"guidance": None}, "guidance is missing"),
    ],
)
def test_bad_input_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        tiny_model()(**{**tiny_inputs(), **change})


def test_unwanted_guidance_is_refused():
    with pytest.raises(ValueError, match="no guidance input"):
        tiny_model(guidance_embed=False)(**tiny_inputs())


def test_fp8_modules_keep_their_dtype_and_follow_the_model():
    model, inputs = tiny_model(), tiny_inputs()
    with torch.no_grad():
        exact = model(**inputs)
        convert_to_fp8_modules(model)
        low = model(**inputs)
        assert 0 < (low - exact).norm() / exact.norm() < 0.1
        model.bfloat16()
        layer = model.single_blocks[0].linear1
        assert isinstance(layer, FP8Linear)
        assert layer.weight.dtype == torch.float8_e4m3fn
        assert layer.scale.dtype == torch.float32
        assert layer.bias.dtype == torch.bfloat16
        assert (model(**inputs) - exact).norm() / exact.norm() < 0.15
        with torch.autocast("cpu", torch.bfloat16):
            assert model(**inputs).dtype == torch.bfloat16
    model.to("meta")
    assert model.single_blocks[0].linear1.weight.is_meta
    assert model(**{key: value.to("meta") for key, value in inputs.items()}).is_meta


def test_fp8_inference_compiles_as_one_graph():
    model, inputs = convert_to_fp8_modules(tiny_model()), tiny_inputs()
    torch.compiler.reset()
    with torch.no_grad():
        got = torch.compile(model, backend="eager", fullgraph=True)(**inputs)
        torch.testing.assert_close(got, model(**inputs), rtol=0, atol=1e-5)


def test_fp8_state_dict_round_trip():
    model, inputs = convert_to_fp8_modules(tiny_model()), tiny_inputs()
    with torch.device("meta"):
        other = convert_to_fp8_modules(HunyuanVideoTransformer(tiny_config()))
    other.load_state_dict(model.state_dict(), strict=True, assign=True)
    with torch.no_grad():
        assert torch.equal(model(**inputs), other(**inputs))
    with pytest.raises(ValueError, match="granularity"):
        FP8Linear(4, 4, granularity="column")
