"""The native Llama decoder and CLIP text model: golden case, parity with transformers, masks and limits."""

from __future__ import annotations

import pytest
import torch

from hunyuan_video.models.text import (
    ClipTextConfig,
    ClipTextEncoder,
    ClipTextModel,
    LlamaConfig,
    LlamaModel,
    PromptTemplate,
    Template,
    TextEncoder,
)

SMALL = dict(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
)
SMALL_CLIP = dict(
    vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, eos_token_id=49
)


def split_weights(golden_case, name):
    weights = golden_case.part("weights")
    return {k.removeprefix(name + "."): v for k, v in weights.items() if k.startswith(name + ".")}


def frame(crop_start: int) -> PromptTemplate:
    return PromptTemplate(Template("{}", crop_start), Template("{}", crop_start))


@pytest.mark.parametrize("mode", ["image", "video"])
def test_golden_text_encode_llm(golden, mode):
    case = golden("text_encode")
    model = LlamaModel(LlamaConfig.from_dict(case.facts["config"]["llama"]))
    model.load_state_dict(split_weights(case, "llm"), strict=True)
    inputs, expected = case.part("in"), case.part("out")
    crop = case.facts["config"]["crop_start"][mode]
    encoder = TextEncoder(model, tokenizer=None, template=frame(crop))
    hidden, mask = encoder.encode_ids(inputs["llm_input_ids"], inputs["llm_attention_mask"], crop)
    torch.testing.assert_close(hidden, expected[f"llm.{mode}.hidden"], atol=1e-5, rtol=1e-5)
    assert torch.equal(mask, expected[f"llm.{mode}.mask"])


def test_golden_text_encode_final_norm(golden):
    case = golden("text_encode")
    model = LlamaModel(LlamaConfig.from_dict(case.facts["config"]["llama"]))
    model.load_state_dict(split_weights(case, "llm"), strict=True)
    inputs = case.part("in")
    encoder = TextEncoder(model, tokenizer=None, apply_final_norm=True)
    hidden, _ = encoder.encode_ids(inputs["llm_input_ids"], inputs["llm_attention_mask"], 95)
    torch.testing.assert_close(hidden, case.part("out")["llm.video.hidden_final_norm"], atol=1e-5, rtol=1e-5)


def test_golden_text_encode_clip(golden):
    case = golden("text_encode")
    model = ClipTextModel(ClipTextConfig.from_dict(case.facts["config"]["clip"]))
    model.load_state_dict(split_weights(case, "clip"), strict=True)
    pooled = ClipTextEncoder(model, tokenizer=None).encode_ids(case.part("in")["clip_input_ids"])
    torch.testing.assert_close(pooled, case.part("out")["clip.pooled"], atol=1e-5, rtol=1e-5)


LLAMA3_ROPE = dict(
    rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16
)


@pytest.mark.parametrize(
    "scaling", [{}, {"rope_type": "linear", "factor": 4.0}, LLAMA3_ROPE], ids=["plain", "linear", "llama3"]
)
@pytest.mark.parametrize("padding", ["right", "left"])
def test_llama_equals_transformers(scaling, padding):
    transformers = pytest.importorskip("transformers")
    theirs_config = transformers.LlamaConfig(
        **SMALL, rope_theta=500.0, rope_scaling=scaling or None, max_position_embeddings=128, initializer_range=0.3
    )
    theirs = transformers.LlamaModel(theirs_config).eval()
    ours = LlamaModel(LlamaConfig.from_dict(theirs_config.to_dict())).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    ids = torch.randint(0, 64, (2, 40))
    mask = torch.ones_like(ids)
    if padding == "right":
        mask[0, 25:] = 0
    else:
        mask[0, :9] = 0
    positions = torch.arange(40)[None].expand(2, -1)
    with torch.no_grad():
        expected = theirs(ids, attention_mask=mask, position_ids=positions, output_hidden_states=True).hidden_states
        states = ours.hidden_states(ids, mask)
    assert len(states) == len(expected) == 5
    valid = mask.bool()
    for got, want in zip(states, expected, strict=True):
        torch.testing.assert_close(got[valid], want[valid], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours(ids, mask, skip_layers=2)[valid], expected[-3][valid], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("eos", [49, 2])
@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_clip_equals_transformers(eos, activation):
    transformers = pytest.importorskip("transformers")
    values = {**SMALL_CLIP, "eos_token_id": eos, "hidden_act": activation, "max_position_embeddings": 20}
    theirs = transformers.CLIPTextModel(transformers.CLIPTextConfig(**values)).eval()
    ours = ClipTextModel(ClipTextConfig.from_dict(values)).eval()
    ours.load_state_dict({k.removeprefix("text_model."): v for k, v in theirs.state_dict().items()}, strict=True)
    ids = torch.randint(3, 48, (3, 20))
    for row, end in enumerate((4, 11, 19)):
        ids[row, end:] = 49
    with torch.no_grad():
        expected = theirs(ids)
        states, pooled = ours(ids)
    torch.testing.assert_close(states, expected.last_hidden_state, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(pooled, expected.pooler_output, atol=1e-5, rtol=1e-5)


def test_padding_does_not_change_valid_states():
    model = LlamaModel(LlamaConfig(**SMALL)).eval()
    ids = torch.randint(0, 64, (1, 12))
    mask = torch.ones_like(ids)
    mask[:, 7:] = 0
    short = model(ids[:, :7], skip_layers=2)
    torch.testing.assert_close(model(ids, mask, skip_layers=2)[:, :7], short, atol=1e-5, rtol=1e-5)


def test_skipped_layers_are_not_run():
    model = LlamaModel(LlamaConfig(**SMALL)).eval()
    for layer in model.layers[-2:]:
        torch.nn.init.constant_(layer.mlp.down_proj.weight, float("nan"))
    assert model(torch.randint(0, 64, (1, 5)), skip_layers=2).isfinite().all()


def test_bad_arguments_are_named():
    model = LlamaModel(LlamaConfig(**SMALL))
    with pytest.raises(ValueError, match=r"skip_layers must be 0\.\.4 .* not 5"):
        model(torch.zeros(1, 3, dtype=torch.int64), skip_layers=5)
    with pytest.raises(ValueError, match="no multiple of num_key_value_heads 3"):
        LlamaConfig(num_attention_heads=4, num_key_value_heads=3)
    with pytest.raises(ValueError, match="'yarn'"):
        LlamaConfig(rope_scaling={"rope_type": "yarn"})
    with pytest.raises(ValueError, match="78 tokens, the model 77"):
        ClipTextModel(ClipTextConfig(**SMALL_CLIP))(torch.zeros(1, 78, dtype=torch.int64))
    with pytest.raises(ValueError, match="'relu'"):
        ClipTextConfig(hidden_act="relu")
