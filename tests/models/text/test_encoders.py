"""Prompt frames, cropping, fixed lengths and the report of words that did not fit."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from hunyuan_video.models.text import (
    HUNYUAN_TEMPLATE,
    ClipTextConfig,
    ClipTextEncoder,
    ClipTextModel,
    LlamaConfig,
    LlamaModel,
    NativeTokenizer,
    PromptTemplate,
    Template,
    TextEncoder,
    TransformersTokenizer,
)

WORDS = "<pad> <s> </s> <unk> a red green circle moves left right tell me , video image".split()


def words_tokenizer(ends: str = "<s> $A"):
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    tokenizer.add_special_tokens(["</s>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=ends, special_tokens=[("<s>", WORDS.index("<s>")), ("</s>", WORDS.index("</s>"))]
    )
    return tokenizer


FRAMES = PromptTemplate(Template("tell me image {} </s>", 4), Template("tell me video video {} </s>", 5), text_length=6)


@pytest.fixture
def encoder():
    config = LlamaConfig(
        vocab_size=len(WORDS), hidden_size=16, intermediate_size=16, num_hidden_layers=3, num_attention_heads=2
    )
    return TextEncoder(LlamaModel(config), NativeTokenizer(words_tokenizer(), 0), FRAMES)


@pytest.mark.parametrize("video", [True, False])
def test_states_are_those_of_the_prompt_alone(encoder, video):
    out = encoder(["a red circle", "a"], video=video)
    assert out.hidden.shape == (2, 6, 16) and out.mask.tolist() == [[1] * 4 + [0] * 2, [1] * 2 + [0] * 4]
    frame = FRAMES.video if video else FRAMES.image
    ids = torch.tensor([encoder.tokenizer.tokenizer.encode(frame.fill("a red circle")).ids])
    states = encoder.model.hidden_states(ids)[-3][:, frame.crop_start :]
    torch.testing.assert_close(out.hidden[0, :4], states[0])


def test_report_names_the_dropped_words(encoder):
    reports = encoder(["a red circle moves left", "a red circle, moves left right", "a green circle moves"]).tokens
    assert [r.dropped for r in reports] == ["", "right", ""]
    assert [(r.used, r.limit) for r in reports] == [(6, 6), (6, 6), (5, 6)]


def test_clip_keeps_its_end_token_when_truncated():
    config = ClipTextConfig(
        vocab_size=len(WORDS), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        eos_token_id=WORDS.index("</s>"),
    )  # fmt: skip
    encoder = ClipTextEncoder(ClipTextModel(config), NativeTokenizer(words_tokenizer("<s> $A </s>"), 2), max_length=6)
    out = encoder(["a red circle moves left right", "a"])
    assert out.pooled.shape == (2, 16)
    assert [(r.used, r.dropped) for r in out.tokens] == [(6, "left right"), (3, "")]
    ids = encoder.tokenizer(["a red circle moves left"], 6).ids
    assert ids[0, -1] == WORDS.index("</s>")
    torch.testing.assert_close(encoder("a").pooled[0], out.pooled[1])


def test_words_cut_in_the_middle_are_dropped_whole():
    letters = {c: i for i, c in enumerate("abcdefgh ")}
    tokenizer = Tokenizer(models.WordLevel(letters, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    config = LlamaConfig(vocab_size=9, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=1)
    plain = PromptTemplate(Template("{}", 0), Template("{}", 0), text_length=5)
    out = TextEncoder(LlamaModel(config), NativeTokenizer(tokenizer, 0), plain)(["ab cdef gh"])
    assert out.tokens[0].dropped == "cdef gh"


def test_transformers_tokenizer_agrees_with_the_native_one():
    transformers = pytest.importorskip("transformers")
    tokenizer = words_tokenizer("<s> $A </s>")
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=words_tokenizer("<s> $A </s>"), pad_token="<pad>")
    texts = ["a red circle moves left right", "a"]
    ours, theirs = NativeTokenizer(tokenizer, 0)(texts, 6), TransformersTokenizer(fast)(texts, 6)
    assert torch.equal(ours.ids, theirs.ids) and torch.equal(ours.mask, theirs.mask)
    assert ours.cuts == theirs.cuts == [19, None]


def test_templates_are_those_of_the_release_and_checked():
    assert (HUNYUAN_TEMPLATE.image.crop_start, HUNYUAN_TEMPLATE.video.crop_start) == (36, 95)
    assert HUNYUAN_TEMPLATE.video.fill("{x}").endswith("user<|end_header_id|>\n\n{x}<|eot_id|>")
    assert PromptTemplate.from_dict(FRAMES.to_dict(), text_length=6) == FRAMES
    with pytest.raises(ValueError, match="exactly one {} for the prompt; this one has 2"):
        Template("{} {}", 0)
    with pytest.raises(ValueError, match="no 'video' entry"):
        PromptTemplate.from_dict({"image": {"template": "{}", "crop_start": 0}})


def test_prompts_must_be_strings(encoder):
    with pytest.raises(TypeError, match="a prompt must be a string, not int"):
        encoder(["a", 3])
