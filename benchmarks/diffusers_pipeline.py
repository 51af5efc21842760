"""Time of a diffusers pipeline on a CPU as it comes, with `accelerate`, and of our own pipeline on the same weights.

    python benchmarks/diffusers_pipeline.py [--quick] [--rounds 3] [--dtype float32]

The bundled model, 33 frames of 256 x 256 pixels, 4 steps (--quick: 17 of 64 x 64). All three run in turn in one
process; the smallest CPU time of the rounds counts (seconds, all threads). The last column compares the latents with
those of diffusers alone.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from hunyuan_video import HunyuanVideoPipeline
from hunyuan_video.integrations.diffusers import accelerate, call_arguments, restore, to_diffusers

PROMPT = "A red circle moves to the right over a green background."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="17 frames of 64 x 64 pixels")
    parser.add_argument("--frames", type=int, help="another number of frames")
    parser.add_argument("--size", type=int, help="another height and width, in pixels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    chosen = parser.parse_args()
    frames, size = (17, 64) if chosen.quick else (33, 256)
    frames, size = chosen.frames or frames, chosen.size or size

    ours = HunyuanVideoPipeline.from_pretrained("tiny", device="cpu", dtype=getattr(torch, chosen.dtype))
    pipe = to_diffusers(ours)
    pipe.set_progress_bar_config(disable=True)
    embeds, _ = ours.encode_prompt(PROMPT)
    grid = ours.grid
    shape = (1, 16, (frames - 1) // grid.temporal + 1, size // grid.spatial, size // grid.spatial)
    given = dict(
        prompt_embeds=embeds.text, prompt_attention_mask=embeds.mask, pooled_prompt_embeds=embeds.pooled,
        height=size, width=size, num_frames=frames, num_inference_steps=chosen.steps, output_type="latent",
        latents=torch.randn(shape, generator=torch.Generator().manual_seed(0)),
    )  # fmt: skip

    def sample() -> Tensor:
        return pipe(**given).frames

    @torch.no_grad()
    def decode(latents: Tensor) -> Tensor:
        return pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample

    def our_sample() -> Tensor:
        return ours(**call_arguments(pipe.scheduler, **given)).latents

    latents = sample().to(pipe.vae.dtype)
    ways: dict[str, tuple[Callable[[], Tensor], Callable[[], Tensor], Callable[[], object]]] = {
        "diffusers": (sample, lambda: decode(latents), lambda: restore(pipe)),
        "accelerate": (sample, lambda: decode(latents), lambda: accelerate(pipe)),
        "our pipeline": (our_sample, lambda: ours.decode(latents, output_type="pt"), lambda: None),
    }
    best: dict[str, list[float]] = {name: [float("inf")] * 2 for name in ways}
    results: dict[str, Tensor] = {}
    for _ in range(chosen.rounds):
        for name, (sampling, decoding, prepare) in ways.items():
            prepare()
            for part, run in enumerate((sampling, decoding)):
                start = time.process_time()
                result = run()
                best[name][part] = min(best[name][part], time.process_time() - start)
                if part == 0:
                    results[name] = result.double()
    whole = sum(best["diffusers"])
    threads = torch.get_num_threads()
    print(f"{frames} frames of {size} x {size}, {chosen.steps} steps, {chosen.dtype}, {threads} threads, CPU seconds")
    print(f"{'':14}{'steps':>10}{'decode':>11}{'times as fast':>15}{'latents differ by':>19}")
    for name, (steps, decoded) in best.items():
        off = (results[name] - results["diffusers"]).norm() / results["diffusers"].norm()
        print(f"{name:14}{steps:10.3f}{decoded:11.3f}{whole / (steps + decoded):15.2f}{off:19.1e}")


if __name__ == "__main__":
    main()
