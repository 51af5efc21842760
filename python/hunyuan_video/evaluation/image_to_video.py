"""Does a clip continue its image? Compared with the real toyworld clip whose first frame the image was."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from hunyuan_video.evaluation.prompt_following import psnr

COLUMNS = ("first", "second", "all")
EQUAL = 70.0  # dB; `psnr` of equal clips is 78.13


def continuation(
    clips: Tensor,  # uint8 [N, F, H, W, 3]
    real: Tensor,  # uint8 [N, F, H, W, 3]
) -> dict[str, float]:
    """PSNR in dB, means over clips: "first" frame against the image; "second" frame against the clip's own first, which
    a jump behind the image lowers; "all" frames against the real clip's.
    """
    pairs = {"first": (clips[:, :1], real[:, :1]), "second": (clips[:, 1:2], clips[:, :1]), "all": (clips, real)}
    return {name: psnr(*pair).mean().item() for name, pair in pairs.items()}


def as_lines(table: Mapping[str, Mapping[str, float]]) -> str:
    """{row: `continuation`} as a Markdown table."""
    head = ("", "first frame to the image", "second frame to the first", "all frames to the real clip")
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row, values in table.items():
        cells = (f"{values[name]:.2f} dB" if values[name] < EQUAL else "equal" for name in COLUMNS)
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
