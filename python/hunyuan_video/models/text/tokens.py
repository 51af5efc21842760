"""Prompts to token ids of one fixed length, with an account of the text that did not fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Tokens:
    """A batch of token ids, right-padded and right-truncated to one length."""

    ids: Tensor  # [B, length] int64
    mask: Tensor  # [B, length] int64, 1 = valid
    cuts: list[int | None]  # per text: index of the first character that was truncated away, None if all of it fits


@dataclass(frozen=True)
class TokenReport:
    """Token counts of one prompt in one text encoder.

    used: token positions in use, including the encoder's closing tokens. limit: positions there are.
    dropped: the words at the end of the prompt that did not fit ("" if all of it did).
    """

    used: int
    limit: int
    dropped: str = ""


class Tokenizer(Protocol):
    """Turns texts into `Tokens` of exactly `length` positions."""

    def __call__(self, texts: list[str], length: int) -> Tokens: ...

    def identity(self) -> str:
        """A text that is equal for tokenizers that make equal tokens."""
        ...


class NativeTokenizer:
    """A tokenizer of the `tokenizers` package. Its post-processor decides which begin and end tokens are added."""

    def __init__(self, tokenizer: Any, pad_id: int):
        self.tokenizer = tokenizer
        self.pad_id = pad_id

    def identity(self) -> str:
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        return f"{self.tokenizer.to_str()} {self.pad_id}"

    def __call__(self, texts: list[str], length: int) -> Tokens:
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(length)
        encodings = self.tokenizer.encode_batch(texts)
        ids = torch.full((len(texts), length), self.pad_id, dtype=torch.int64, device="cpu")
        mask = torch.zeros_like(ids)
        for row, encoding in enumerate(encodings):
            ids[row, : len(encoding.ids)] = torch.tensor(encoding.ids, device="cpu")
            mask[row, : len(encoding.ids)] = 1
        return Tokens(ids, mask, [_first_dropped(encoding) for encoding in encodings])


class TransformersTokenizer:
    """A tokenizer of the transformers package, already loaded. Slow ones know no offsets: cuts are found by length."""

    def __init__(self, tokenizer: Any):
        tokenizer.padding_side = "right"
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        self.tokenizer = tokenizer

    def identity(self) -> str:
        return f"{self.tokenizer!r} {sorted(self.tokenizer.get_vocab().items())}"

    def __call__(self, texts: list[str], length: int) -> Tokens:
        batch = self.tokenizer(
            texts, padding="max_length", truncation=True, max_length=length, return_attention_mask=True
        )
        cuts = [self._cut(text, length) for text in texts]
        return Tokens(
            torch.tensor(batch["input_ids"], device="cpu"), torch.tensor(batch["attention_mask"], device="cpu"), cuts
        )

    def _cut(self, text: str, length: int) -> int | None:
        added = self.tokenizer.num_special_tokens_to_add()
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(ids) + added <= length:
            return None
        dropped = self.tokenizer.decode(ids[length - added :]).strip()
        at = text.lower().rfind(dropped.lower())  # CLIP's tokenizer lower-cases
        return at if at >= 0 else max(0, len(text) - len(dropped))


def token_report(
    prompt: str,
    *,
    cut: int | None,  # index of the first lost character in the prompt's frame, from Tokens.cuts
    offset: int,  # where the prompt starts in its frame
    used: int,
    limit: int,
) -> TokenReport:
    """The report for a prompt that stands at `offset` in the text that was tokenized; half a word counts as dropped."""
    if cut is None or cut - offset >= len(prompt):
        return TokenReport(used, limit)
    start = max(0, cut - offset)
    while start > 0 and _same_word(prompt[start - 1], prompt[start]):
        start -= 1
    return TokenReport(used, limit, prompt[start:].strip())


def _same_word(left: str, right: str) -> bool:
    """Letters of one spaced word (scripts from U+2E80 on, such as Chinese, do not put spaces between words)."""
    return left.isalnum() and right.isalnum() and max(left, right) < "\u2e80"


def _first_dropped(encoding: Any) -> int | None:
    """Start of the first overflowing token that stands for text (begin and end tokens have empty spans)."""
    for rest in encoding.overflowing:
        starts = [start for start, end in rest.offsets if end > start]
        if starts:
            return starts[0]
    return None
