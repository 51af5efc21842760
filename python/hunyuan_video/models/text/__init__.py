"""Text encoders: a Llama-type language model and CLIP, their tokens and prompt templates."""

from hunyuan_video.models.text.clip import ClipTextConfig, ClipTextModel
from hunyuan_video.models.text.encoders import ClipTextEncoder, EncodedPooled, EncodedText, TextEncoder
from hunyuan_video.models.text.llama import LlamaConfig, LlamaModel
from hunyuan_video.models.text.templates import HUNYUAN_TEMPLATE, PromptTemplate, Template
from hunyuan_video.models.text.tokens import NativeTokenizer, TokenReport, Tokens, TransformersTokenizer

__all__ = [
    "HUNYUAN_TEMPLATE",
    "ClipTextConfig",
    "ClipTextEncoder",
    "ClipTextModel",
    "EncodedPooled",
    "EncodedText",
    "LlamaConfig",
    "LlamaModel",
    "NativeTokenizer",
    "PromptTemplate",
    "Template",
    "TextEncoder",
    "TokenReport",
    "Tokens",
    "TransformersTokenizer",
]
