"""Cases that `same_outputs.py` runs in each checkout: commands of `hunyuan-video`, recipes for them, some Python calls.

Public commands and names only, so that code may move. As a program, with the Python of the checkout that is asked:

    python output_cases.py origin               prints where the packages come from
    python output_cases.py golden FOLDER FILE   outputs of the recorded cases, as .safetensors
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STEPS = 20
MODEL = {"hidden_size": 32, "num_heads": 1, "double_blocks": 1, "single_blocks": 2, "refiner_depth": 1,
         "rope_dims": [8, 12, 12], "text_dim": 128, "pooled_text_dim": 96, "guidance_embed": False}  # fmt: skip
VAE = {"latent_channels": 4, "block_out_channels": [4, 4, 8, 8], "layers_per_block": 1, "norm_groups": 2,
       "tile_size": 16, "tile_frames": 8}  # fmt: skip
WORLD = {"name": "narrow", "size": 32, "num_frames": 5, "clips": 16}
LOOP = {"steps": STEPS, "batch": 4, "log_every": 1, "save_every": STEPS // 2, "keep": 2, "sheet_every": 0}
OPTIMIZER = {"lr": 1e-3, "muon_lr": 2e-3, "warmup_steps": 2, "decay": 0.5, "ema": 0.9}
PARTS = {"vae": "checkpoint/vae", "text": "checkpoint", "world": WORLD, "loop": LOOP, "optimizer": OPTIMIZER}
TRANSFORMER = "checkpoint/transformer"
FLOW = {**PARTS, "sample_steps": 2, "eval_prompts": 2}
ENCODED = {"data": "data", "checkpoint": "checkpoint", "held_out": 2, "sample_steps": 2, "loop": LOOP}
DISTILLED = {**PARTS, "optimizer": {**OPTIMIZER, "muon_lr": 0.0}, "teacher": TRANSFORMER, "rank": 2, "eval_prompts": 2}

# Recipes by the name of the case; `output` is added. "checkpoint" is a copy of the bundled one.
RECIPES: dict[str, dict[str, Any]] = {
    "flow": {**FLOW, "kind": "flow", "model": MODEL},
    "flow float32": {**FLOW, "kind": "flow", "model": MODEL, "loop": {**LOOP, "precision": "fp32", "micro_batches": 2}},
    "image to video": {**FLOW, "kind": "flow", "init_from": TRANSFORMER, "image_condition": "token_replace"},
    "flow_encoded": {**ENCODED, "kind": "flow_encoded", "model": MODEL, "optimizer": OPTIMIZER},
    "lora": {**ENCODED, "kind": "flow_encoded", "init_from": TRANSFORMER, "lora": {"rank": 2, "alpha": 4.0},
             "optimizer": {**OPTIMIZER, "muon_lr": 0.0}},
    "stages": {
        "kind": "stages", "encoders": "checkpoint", "model": MODEL, "aspects": ["4:3", "1:1", "3:4"], "sample_steps": 2,
        "eval_prompts": 2, "loop": {"log_every": 1, "save_every": 5, "keep": 2, "sheet_every": 0},
        "optimizer": OPTIMIZER,
        "stages": [
            {"name": "image", "steps": 10, "anchors": [16, 32], "max_tokens": 16, "max_batch": 4},
            {"name": "video", "steps": 10, "anchors": [32], "frames": [5, 9], "images": 0.25, "max_tokens": 48,
             "max_batch": 4},
        ],
    },
    "vae": {"kind": "vae", "model": VAE, "world": {**WORLD, "num_frames": 9}, "loop": LOOP, "optimizer": OPTIMIZER,
            "crop": 16, "crop_frames": 5, "full_batch": 2, "pca_clips": 12},
    "vae_stages": {
        "kind": "vae_stages", "model": VAE, "source_frames": 9, "source_size": 32, "clips": 8, "held_out": 2,
        "perceptual": "torch.nn:MSELoss", "adversarial_start": 4, "discriminator_width": 4,
        # bfloat16 would do less: torch's weight gradient of one output channel differs between runs (2.13, with AMX)
        "loop": {**LOOP, "precision": "fp32"},
        "optimizer": {**OPTIMIZER, "muon_lr": 0.0},
        "stages": [
            {"steps": 12, "frames": 5, "size": 16, "batch": 2},
            {"steps": 8, "frames": 5, "size": 32, "batch": 2, "tiled": 1.0},
        ],
    },
    "guidance_distillation": {**PARTS, "kind": "guidance_distillation", "teacher": TRANSFORMER, "balanced": True,
                              "even_times": 0.5, "sample_steps": 2, "eval_prompts": 2},
    "dmd distillation": {**DISTILLED, "kind": "step_distillation", "method": "dmd", "steps": 2, "fake_updates": 2,
                         "fake_rank": 2, "fake_optimizer": {"lr": 5e-4, "warmup_steps": 2}},
    "consistency distillation": {**DISTILLED, "kind": "step_distillation", "method": "consistency", "steps": 2,
                                 "teacher_levels": 8, "teacher_steps": 2},
    "text": {"kind": "text", "settings": {
        "evaluation_captions": 40,
        "language_model": {"hidden_size": 32, "intermediate_size": 32, "layers": 3, "steps": STEPS, "batch": 8},
        "clip": {"hidden_size": 32, "intermediate_size": 32, "layers": 1, "embed": 16, "clips": 32, "frames": 3,
                 "size": 16, "steps": STEPS, "batch": 16}}},
    "bundle": {"kind": "bundle", "vae": "checkpoint/vae", "text": "checkpoint", "transformer": TRANSFORMER,
               "sampling": {"height": 64, "width": 64, "num_frames": 17, "fps": 8, "num_inference_steps": 4,
                            "true_cfg_scale": 3.0, "guidance_scale": 1.0, "flow_shift": 1.0, "world": "narrow"}},
}  # fmt: skip

PROMPTS = ("a red circle moves right", "a large yellow star moves up on a gray background", "a white triangle")


@dataclass(frozen=True)
class Case:
    """Commands to run in the working folder of a checkout, and the files and folders of it to compare."""

    name: str
    commands: tuple[tuple[str, ...], ...]  # arguments of hunyuan-video
    outputs: tuple[str, ...]
    quick: bool = False


def cases() -> Iterator[Case]:
    """All cases in order; later ones read what "encode" writes."""
    for number, prompt in enumerate(PROMPTS, 1):
        for adapter in ("few_step", "none"):
            steps = () if adapter == "few_step" else ("--num-inference-steps", "6")
            yield _sampled(f"sample {number} {adapter}", prompt, "--adapter", adapter, *steps, quick=number == 1)
    yield _sampled("sample bfloat16", PROMPTS[0], "--dtype", "bfloat16", "--num-videos-per-prompt", "2")
    yield _sampled("sample exact, heun", PROMPTS[0], "--vae-mode", "exact", "--solver", "heun")
    yield _sampled("sample tiled", PROMPTS[1], "--vae-mode", "tiled", "--height", "96", "--width", "80")
    buckets = ("--bucket", "17x32x32", "--bucket", "1x32x32", "--bucket", "5x48x48")
    encode = ("encode", "toyworld:narrow", "--clips", "12", "--captions", "2", "--shard", "5", "--workers", "1")
    yield Case("encode", ((*encode, "-o", "data", *buckets, "--model", "checkpoint"),), ("data",), True)
    yield _converted()
    for name in RECIPES:
        yield Case(name, (("train", recipe_file(name)),), (f"runs/{folder_of(name)}",), name == "flow")


def _sampled(name: str, prompt: str, *flags: str, quick: bool = False) -> Case:
    folder = folder_of(name)
    outputs = tuple(f"{folder}/out{ending}" for ending in (".mp4", ".safetensors", ".png", ".state.safetensors"))
    files = ("-o", outputs[0], "-o", outputs[1], "-o", outputs[2], "--contact-sheet", "--checkpoint-to", outputs[3])
    command = ("sample", prompt, "--model", "checkpoint", "--seed", "3", "--device", "cpu", "--threads", "1")
    return Case(name, ((*command, *flags, *files),), outputs, quick)


def _converted() -> Case:
    there = (("convert", "checkpoint", "official", "--layout", "official"),)
    back = (("convert", "official", "diffusers", "--layout", "diffusers"),)
    halved = (("convert", TRANSFORMER, "half.safetensors", "--layout", "official", "--dtype", "float16"),)
    return Case("convert", there + back + halved, ("official", "diffusers", "half.safetensors"), True)


def folder_of(name: str) -> str:
    return name.replace(" ", "_").replace(",", "")


def recipe_file(name: str) -> str:
    return f"{folder_of(name)}.yaml"


def write_recipes(folder: Path) -> None:
    """JSON is YAML."""
    for name, recipe in RECIPES.items():
        (folder / recipe_file(name)).write_text(json.dumps({**recipe, "output": f"runs/{folder_of(name)}"}))


def origin() -> dict[str, str]:
    """Files of the packages that this Python imports, and the bundled checkpoint."""
    import hunyuan_ext
    import hunyuan_video

    package = Path(hunyuan_video.__file__).parent
    native = str(hunyuan_ext.capabilities()["build"]["native"])
    tiny = str(package / "assets" / "tiny")
    return {
        "hunyuan_ext": hunyuan_ext.__file__,
        "hunyuan_video": hunyuan_video.__file__,
        "tiny": tiny,
        "native": native,
    }


def golden(folder: Path) -> dict[str, Any]:
    """Outputs of this checkout for the recorded cases, by "case.output"."""
    import torch
    from safetensors.torch import load_file

    outputs: dict[str, Any] = {}
    with torch.no_grad():
        for path in sorted(folder.glob("*.safetensors")):
            kind = path.stem.partition("_")[0]
            if kind in GOLDEN:
                case, tensors = json.loads(path.with_suffix(".json").read_text()), load_file(path)
                for name, value in GOLDEN[kind](case["config"], tensors):
                    outputs[f"{path.stem}.{name}"] = value.contiguous()
    return outputs


def _part(tensors: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {name[len(prefix) + 1 :]: value for name, value in tensors.items() if name.startswith(prefix + ".")}


TRANSFORMER_FIELDS = {
    "heads_num": "num_heads", "mm_double_blocks_depth": "double_blocks", "mm_single_blocks_depth": "single_blocks",
    "mlp_width_ratio": "mlp_ratio", "rope_dim_list": "rope_dims", "text_states_dim": "text_dim",
    "text_states_dim_2": "pooled_text_dim",
}  # fmt: skip
VAE_FIELDS = {"norm_num_groups": "norm_groups", "sample_size": "tile_size", "sample_tsize": "tile_frames"}


def _config(cls: Any, case: dict[str, Any], names: dict[str, str]) -> Any:
    """The fields of a recorded configuration that ours has, tuples in the place of lists."""
    known = cls.__dataclass_fields__
    renamed = {names.get(name, name): value for name, value in case.items()}
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in renamed.items() if k in known})


def _transformer(case: dict[str, Any], weights: dict[str, Any]) -> Any:
    from hunyuan_video.models import HunyuanVideoTransformer, TransformerConfig

    model = HunyuanVideoTransformer(_config(TransformerConfig, case, TRANSFORMER_FIELDS))
    model.load_state_dict(weights, strict=True)
    return model.eval()


def _vae(case: dict[str, Any], weights: dict[str, Any]) -> Any:
    from hunyuan_video.models import CausalVAE, VAEConfig

    model = CausalVAE(_config(VAEConfig, case, VAE_FIELDS))
    model.load_state_dict(weights, strict=False)  # those of the pipelines have no encoder
    return model.eval()


def _dit_outputs(case: dict[str, Any], tensors: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    import torch

    given = _part(tensors, "in")
    model = _transformer(case, _part(tensors, "weights"))
    for dtype in (torch.float32, torch.bfloat16):
        velocity = model.to(dtype)(
            given["x"].to(dtype), given["t"], text=given["text_states"].to(dtype), text_mask=given["text_mask"],
            pooled_text=given["text_states_2"].to(dtype), guidance=given.get("guidance"),
        )  # fmt: skip
        yield str(dtype), velocity


def _vae_outputs(case: dict[str, Any], tensors: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    model = _vae(case, _part(tensors, "weights"))
    for name, value in _part(tensors, "in").items():
        for mode in ("plain", "tiled", "exact"):
            if name.endswith("video"):
                posterior = model.encode(value, mode=mode)
                yield f"{name}.{mode}.mean", posterior.mean
                yield f"{name}.{mode}.logvar", posterior.logvar
            elif name.endswith("latent"):
                yield f"{name}.{mode}", model.decode(value, mode=mode)


def _pipeline_outputs(case: dict[str, Any], tensors: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    from hunyuan_video import HunyuanVideoPipeline, PromptEmbeds

    parts, given = _part(tensors, "weights"), _part(tensors, "in")
    pipe = HunyuanVideoPipeline(
        _transformer({"in_channels": 16, "out_channels": 16, **case["dit"]}, _part(parts, "dit")),
        _vae(case["vae"], _part(parts, "vae")),
    )
    embeds = [
        PromptEmbeds(*(given[f"{prefix}prompt_{part}"] for part in ("embeds", "mask", "embeds_2")))
        for prefix in ("", "negative_")
        if f"{prefix}prompt_embeds" in given
    ]
    out = pipe(
        prompt_embeds=embeds[0], negative_prompt_embeds=embeds[1] if len(embeds) > 1 else None, output_type="pt",
        height=case["height"], width=case["width"], num_frames=case["video_length"], latents=given["latents"],
        num_inference_steps=case["num_inference_steps"], flow_shift=case["shift"],
        true_cfg_scale=case["guidance_scale"], guidance_scale=case["embedded_guidance_scale"],
        vae_mode="tiled" if case["enable_tiling"] else "plain",
    )  # fmt: skip
    yield "latents", out.latents
    yield "frames", out.frames


def _rope_outputs(case: dict[str, Any], tensors: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    from hunyuan_video.models import rope_table

    for number, value in case.items():
        tables = rope_table(tuple(value["grid_thw"]), dims=tuple(value["rope_dim_list"]), theta=float(value["theta"]))
        yield from ((f"{number}.{name}", table) for name, table in zip(("cos", "sin"), tables, strict=True))


def _schedule_outputs(case: dict[str, Any], tensors: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    from hunyuan_video.flow import FlowSchedule

    for number, value in case.items():
        yield number, FlowSchedule(steps=value["num_inference_steps"], shift=value["shift"]).sigmas


GOLDEN = {
    "dit": _dit_outputs, "vae": _vae_outputs, "pipeline": _pipeline_outputs, "rope": _rope_outputs,
    "scheduler": _schedule_outputs,
}  # fmt: skip


def main(arguments: list[str]) -> None:
    if arguments[0] == "origin":
        print(json.dumps(origin()))
        return
    from safetensors.torch import save_file

    save_file(golden(Path(arguments[1])), arguments[2])


if __name__ == "__main__":
    sys.path.pop(0)  # this file's folder: the packages come from the checkout's environment
    main(sys.argv[1:])
