"""Word-level tokenizers of the toy world: its own words, other ways people say them, and common words of prompts."""

from __future__ import annotations

from typing import Any

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from hunyuan_video.data.toyworld.captions import vocabulary
from hunyuan_video.data.toyworld.phrases import SYNONYMS
from hunyuan_video.data.toyworld.scene import AnyWorld
from hunyuan_video.data.toyworld.wide.phrases import plural_synonyms
from hunyuan_video.data.toyworld.wide.scene import WideWorld

PAD, UNKNOWN = "<pad>", "<unk>"
LLM_SPECIAL = (PAD, UNKNOWN, "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
CLIP_SPECIAL = (PAD, UNKNOWN, "<|startoftext|>", "<|endoftext|>")

COMMON_WORDS = """
    across against all along also always an and any anything are as at away back be before behind below beside between
    both bright but by can center centre close clouds color colour colored colours corner dark does edge everything far
    fast few film focus for frame front full gently gives goes going has he her here high his how i image into it its
    just keep keeps light like lines look looks low make many middle more motion move movement moved moving much near no
    not nothing now object objects off old once only onto or other over pattern photo picture place plain please quick
    quickly scene screen see shape shaped shot show shows shown side simple slow slowly slow smooth smoothly so solid
    some something space speed stay steadily steady stays strong surface textured texture than then there these they
    thing this those three through time to together top towards toward two under until us very view want was way we
    what when where which while who will wide with without world you your dot dots stripes wave waves check checks
    bottom upper lower left right describe its following aspects size one four camera lens zooming panning tilting
    shaking circling rotation growing shrinking bouncing drawn flat animated cartoon style quality blurry ugly distorted
    noisy deformed worst best system user
""".split()


def language_tokenizer(world: AnyWorld) -> Tokenizer:
    """For the language model: begin token in front, special tokens of the template recognized in the text."""
    return _tokenizer(world, LLM_SPECIAL, ["<|begin_of_text|>", "$A"])


def clip_tokenizer(world: AnyWorld) -> Tokenizer:
    """For CLIP: begin and end token around the text."""
    return _tokenizer(world, CLIP_SPECIAL, ["<|startoftext|>", "$A", "<|endoftext|>"])


def tokenizer_config(special: tuple[str, ...], length: int) -> dict[str, Any]:
    """The tokenizer_config.json that makes transformers load one of these tokenizers."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": PAD,
        "unk_token": UNKNOWN,
        "bos_token": special[2],
        "eos_token": special[-1],
        "padding_side": "right",
        "model_max_length": length,
        "clean_up_tokenization_spaces": False,
    }


def _tokenizer(world: AnyWorld, special: tuple[str, ...], ends: list[str]) -> Tokenizer:
    synonyms = plural_synonyms() if isinstance(world, WideWorld) else SYNONYMS
    known_words = (
        set(vocabulary(world)) | set(COMMON_WORDS) | set(synonyms) | {w for words in synonyms.values() for w in words}
    )
    words = [*special, *sorted(known_words - set('{}"'))]
    ids = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    # Structured captions are JSON: its brackets and quotes say nothing and would cost tokens.
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Lowercase(), normalizers.Replace(Regex(r'[{}"_\-]'), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation(behavior="isolated")]
    )
    tokenizer.add_special_tokens(list(special))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=ends, special_tokens=[(token, ids[token]) for token in ends if token != "$A"]
    )
    return tokenizer
