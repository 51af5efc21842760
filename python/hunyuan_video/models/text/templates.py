"""Prompt templates: instructions around a prompt for the language model, cut from its hidden states afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hunyuan_video.rules import check_field_types


@dataclass(frozen=True)
class Template:
    """text: the frame, with one `{}` where the prompt goes. crop_start: how many leading token positions (begin token
    and instructions) are cut from the hidden states."""

    text: str
    crop_start: int

    def __post_init__(self) -> None:
        check_field_types(self)
        if self.text.count("{}") != 1:
            raise ValueError(f"a template needs exactly one {{}} for the prompt; this one has {self.text.count('{}')}")
        if self.crop_start < 0:
            raise ValueError(f"crop_start must be 0 or more, not {self.crop_start}")

    @property
    def prefix(self) -> str:
        return self.text.split("{}")[0]

    def fill(self, prompt: str) -> str:
        return self.text.replace("{}", prompt)


@dataclass(frozen=True)
class PromptTemplate:
    """The frames for images and for videos, and the number of text tokens that the video transformer is given."""

    image: Template
    video: Template
    text_length: int = 256

    def __post_init__(self) -> None:
        check_field_types(self, ("text_length",))

    def frame(self, video: bool) -> Template:
        """The frame for videos, or for images."""
        return self.video if video else self.image

    @classmethod
    def from_dict(cls, templates: dict[str, dict[str, Any]], text_length: int = 256) -> PromptTemplate:
        """From `{"image": {"template": "...{}...", "crop_start": n}, "video": {...}}`, as in sampling.json."""
        parts = {}
        for kind in ("image", "video"):
            if not isinstance(templates, dict) or not isinstance(templates.get(kind, {}), dict):
                raise ValueError("prompt_template must be a table of the tables image and video")
            if kind not in templates:
                raise ValueError(f"prompt_template has no {kind!r} entry; it needs both image and video")
            parts[kind] = Template(templates[kind]["template"], templates[kind]["crop_start"])
        return cls(**parts, text_length=text_length)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """The inverse of `from_dict` (without text_length)."""
        both = {"image": self.image, "video": self.video}
        return {kind: {"template": t.text, "crop_start": t.crop_start} for kind, t in both.items()}


_SYSTEM = "<|start_header_id|>system<|end_header_id|>\n\n"
_USER = "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|>"

HUNYUAN_TEMPLATE = PromptTemplate(
    image=Template(
        _SYSTEM + "Describe the image by detailing the color, shape, size, texture, quantity, text, "
        "spatial relationships of the objects and background:" + _USER,
        crop_start=36,
    ),
    video=Template(
        _SYSTEM + "Describe the video by detailing the following aspects: "
        "1. The main content and theme of the video."
        "2. The color, shape, size, texture, quantity, text, and spatial relationships of the objects."
        "3. Actions, events, behaviors temporal relationships, physical movement changes of the objects."
        "4. background environment, light, style and atmosphere."
        "5. camera angles, movements, and transitions used in the video:" + _USER,
        crop_start=95,
    ),
)
"""What the released HunyuanVideo was trained with (Llama-3 tokens)."""
