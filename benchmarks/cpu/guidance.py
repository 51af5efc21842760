"""One pass with the guidance scale as an input against two passes, on the bundled transformer:

    python -m benchmarks.cpu.guidance [--steps 30] [--seconds 12]

The student is the teacher with a guidance input, untrained: training changes its output, not its cost. Latents only,
no decoding. "encoded": prompts encoded before; "text": with the text encoders. Calls of the two alternate.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch

from benchmarks import machine
from benchmarks.timing import race
from hunyuan_video import HunyuanVideoPipeline
from hunyuan_video.training.tasks.guidance_distillation import guidance_student

PROMPT = "a large red star moves left on a striped navy background, the camera is static"
# Videos a call, and the frames, height and width of each.
CASES = ((1, (17, 64, 64)), (4, (17, 64, 64)), (16, (17, 64, 64)), (1, (33, 128, 128)))
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=12.0, help="for each row")
    args = parser.parse_args()
    about = machine.machine_facts()
    print(f"{about['device']}, {about['cores']} cores, {about['torch_threads']} threads, kernels {about['kernels']}")
    print("| dtype | videos a call | prompts | two passes | one pass | times as fast |\n|---|---|---|---|---|---|")
    for name, dtype in DTYPES.items():
        teacher = HunyuanVideoPipeline.from_pretrained("tiny", adapter="none", device="cpu", dtype=dtype)
        student = HunyuanVideoPipeline(
            transformer=guidance_student(teacher.transformer).eval(), vae=teacher.vae,
            text_encoder=teacher.text_encoder, clip_text_encoder=teacher.clip_text_encoder, defaults=teacher.defaults,
        )  # fmt: skip
        for videos, size in CASES:
            shape = dict(zip(("num_frames", "height", "width"), size, strict=True))
            case = f"{name} | {videos} of {'x'.join(map(str, size))}"
            for prompts, given in (("encoded", encoded(teacher)), ("text", {"prompt": PROMPT})):
                common = {**given, **shape, "num_videos_per_prompt": videos, "num_inference_steps": args.steps}
                one_pass = {name: value for name, value in common.items() if name != "negative_prompt_embeds"}
                runs = {
                    "two": sampler(teacher, **common, true_cfg_scale=3.0),
                    "one": sampler(student, **one_pass, true_cfg_scale=1.0, guidance_scale=3.0),
                }
                times, _ = race(runs, seconds=args.seconds)
                two, one = times["two"].median, times["one"].median
                print(f"| {case} | {prompts} | {two / 1e3:.3f} s | {one / 1e3:.3f} s | {two / one:.2f} |", flush=True)


def encoded(pipe: HunyuanVideoPipeline) -> dict[str, Any]:
    """Prompt and negative prompt, encoded."""
    negative = pipe.encode_prompt(pipe.defaults.negative_prompt)[0]
    return {"prompt_embeds": pipe.encode_prompt(PROMPT)[0], "negative_prompt_embeds": negative}


def sampler(pipe: HunyuanVideoPipeline, **arguments: Any) -> Callable[[], Any]:
    return lambda: pipe(seed=1, output_type="latent", batch_size=arguments["num_videos_per_prompt"], **arguments)


if __name__ == "__main__":
    main()
