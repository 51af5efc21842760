"""Notices about words that an encoder did not read, and about memory that ran out."""

from __future__ import annotations

import pytest

from hunyuan_video import UserError
from hunyuan_video.errors import explained_memory_errors
from hunyuan_video.models.text.tokens import TokenReport
from hunyuan_video.sampling.prompts import dropped_lines, mostly_dropped, shortened, tokens_as_json, tokens_from_json

WHOLE, CUT = TokenReport(5, 8), TokenReport(8, 8, "on a gray background")


def test_only_dropped_words_are_told():
    assert dropped_lines({"text_encoder": [WHOLE], "clip_text_encoder": [WHOLE]}) == []
    assert dropped_lines({"text_encoder": [WHOLE], "clip_text_encoder": [CUT]}) == [
        "CLIP reads 8 tokens and did not see: 'on a gray background'"
    ]
    assert dropped_lines({"text_encoder": [WHOLE, CUT]}) == [
        "prompt 2: the text encoder reads 8 tokens and did not see: 'on a gray background'"
    ]


def test_a_paste_accident_is_recognized():
    long = "a star " * 100
    assert mostly_dropped({"text_encoder": [TokenReport(8, 8, long[100:])]}, [long]) == long
    assert mostly_dropped({"text_encoder": [TokenReport(8, 8, long[400:])]}, [long]) is None
    assert mostly_dropped({}, [long]) is None  # embeddings were given


def test_long_texts_are_shortened_to_one_line():
    assert shortened("a\nb") == "a b" and shortened("x" * 60) == "x" * 60
    assert shortened("x" * 61) == "x" * 57 + "..."


def test_reports_survive_json():
    tokens = {"text_encoder": [WHOLE, CUT]}
    assert tokens_from_json(tokens_as_json(tokens)) == tokens


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 20 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: 1 TB"),
    ],
)
def test_memory_errors_are_explained(error):
    refusal = pytest.raises(UserError, match="^not enough memory for decoding; use tiles$")
    with refusal, explained_memory_errors("decoding", "use tiles"):
        raise error


def test_other_errors_pass_through():
    with pytest.raises(RuntimeError, match="shape mismatch"), explained_memory_errors("decoding", "use tiles"):
        raise RuntimeError("shape mismatch")
