"""Sampling from the bundled checkpoint as a diffusers user would write it, to compare `hunyuan-video sample` with.

python -m benchmarks.cpu.cold_diffusers PROMPT OUT.mp4 [STEPS]; nothing of this package is imported.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import av
import numpy as np
import torch
from diffusers import HunyuanVideoPipeline


def main(prompt: str, output: str, steps: str | None = None) -> None:
    spec = importlib.util.find_spec("hunyuan_video")  # finds it without importing it
    folder = Path(spec.submodule_search_locations[0]) / "assets" / "tiny"
    settings = json.loads((folder / "sampling.json").read_text(encoding="utf-8"))
    pipe = HunyuanVideoPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    frames = pipe(
        prompt,
        negative_prompt="",
        pooled_prompt_embeds=pooled(pipe, prompt),
        negative_pooled_prompt_embeds=pooled(pipe, ""),
        height=settings["height"],
        width=settings["width"],
        num_frames=settings["num_frames"],
        num_inference_steps=int(steps or settings["num_inference_steps"]),
        true_cfg_scale=settings["true_cfg_scale"],
        max_sequence_length=settings["text_length"],
        prompt_template=settings["prompt_template"]["video"],
        generator=torch.Generator().manual_seed(3),
        output_type="np",
    ).frames[0]
    write_mp4(output, (255 * frames).round().astype(np.uint8), settings["fps"])


def pooled(pipe: HunyuanVideoPipeline, prompt: str) -> torch.Tensor:
    """The pipeline itself would pad to the 77 tokens of the released CLIP, more than this one reads."""
    limit = pipe.text_encoder_2.config.max_position_embeddings
    tokens = pipe.tokenizer_2(prompt, padding="max_length", max_length=limit, truncation=True, return_tensors="pt")
    with torch.no_grad():
        return pipe.text_encoder_2(tokens.input_ids).pooler_output


def write_mp4(path: str, frames: np.ndarray, fps: int) -> None:  # [F, H, W, 3] uint8
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "16"})
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
