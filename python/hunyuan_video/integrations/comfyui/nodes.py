"""The nodes: loader, text encode, LoRA, sampler, decode and plan. ComfyUI's own modules are imported when they run."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from torch import Tensor

from hunyuan_video.errors import ArgumentError
from hunyuan_video.flow import SOLVERS
from hunyuan_video.integrations.comfyui.values import (
    Conditioning,
    GraphModel,
    GraphVAE,
    Latent,
    conditioning_of,
    embeds_of,
    empty_size,
    ordinary,
)
from hunyuan_video.sampling import Finished, HunyuanVideoPipeline, StepEvent

MODEL = "HUNYUAN_VIDEO"
STORED = "as stored"
PREVIEW_SIDE = 512  # pixels, at most
SEEDS = 2**64 - 1
CATEGORY = "hunyuan video"


def given(**values: Any) -> dict[str, Any]:
    """Arguments that a person has set; the others are the checkpoint's."""
    return {name: value for name, value in values.items() if value not in (None, "", STORED)}


class Loader:
    """A checkpoint: "tiny" (bundled), a folder, or OWNER/NAME."""

    CATEGORY, FUNCTION = CATEGORY, "load"
    RETURN_TYPES: ClassVar = (MODEL, "VAE")
    RETURN_NAMES: ClassVar = ("model", "vae")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "checkpoint": ("STRING", {"default": "tiny", "tooltip": "tiny, a folder, or OWNER/NAME of the hub"}),
                "adapter": ("STRING", {"default": "", "tooltip": "empty: the checkpoint's default; none: without"}),
                "precision": ([STORED, "auto", "bf16", "fp8", "int8"],),
                "memory": (["auto", "resident", "stream"],),
            }
        }

    def load(self, checkpoint: str, adapter: str, precision: str, memory: str) -> tuple[GraphModel, GraphVAE]:
        with ordinary():
            chosen = given(adapter=adapter, precision=precision)
            pipe = HunyuanVideoPipeline.from_pretrained(checkpoint, memory=memory, **chosen)
        return GraphModel(pipe), GraphVAE(pipe)


class Lora:
    """A LoRA file for this branch of the graph; other branches of the same model are without it."""

    CATEGORY, FUNCTION = CATEGORY, "add"
    RETURN_TYPES: ClassVar = (MODEL,)
    RETURN_NAMES: ClassVar = ("model",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        import folder_paths

        strength = {"default": 1.0, "min": -10.0, "max": 10.0, "step": 0.05}
        files = folder_paths.get_filename_list("loras")
        return {"required": {"model": (MODEL,), "file": (files,), "strength": ("FLOAT", strength)}}

    def add(self, model: GraphModel, file: str, strength: float) -> tuple[GraphModel]:
        import folder_paths

        path = folder_paths.get_full_path("loras", file)
        if path is None:
            raise ArgumentError(f"no file {file!r} in ComfyUI's folder of loras")
        return (model.with_lora(path, strength),)


class TextEncode:
    """A prompt, for our sampler and for ComfyUI's HunyuanVideo models with these text encoders."""

    CATEGORY, FUNCTION = CATEGORY, "encode"
    RETURN_TYPES: ClassVar = ("CONDITIONING", "STRING")
    RETURN_NAMES: ClassVar = ("conditioning", "tokens")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        text = {"multiline": True, "dynamicPrompts": True, "default": ""}
        return {"required": {"model": (MODEL,), "text": ("STRING", text)}}

    def encode(self, model: GraphModel, text: str) -> tuple[Conditioning, str]:
        with ordinary():
            embeds, reports = model.pipe.encode_prompt(text)
        lines = [f"{name}: {one}" for name, several in reports.items() for one in several]
        return conditioning_of(embeds), "\n".join(lines)


class Sampler:
    """Noise to latents. An empty LATENT says the size and number of videos; video i gets seed + i."""

    CATEGORY, FUNCTION = CATEGORY, "sample"
    RETURN_TYPES: ClassVar = ("LATENT",)
    RETURN_NAMES: ClassVar = ("latent",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        stored = "the checkpoint's own"
        return {
            "required": {
                "model": (MODEL,),
                "positive": ("CONDITIONING",),
                "latent": ("LATENT",),
                "seed": ("INT", {"default": 0, "min": 0, "max": SEEDS, "control_after_generate": True}),
                "steps": ("INT", {"default": 0, "min": 0, "max": 1000, "tooltip": f"0: {stored}"}),
                "guidance": (
                    "FLOAT",
                    {"default": -1.0, "min": -1.0, "max": 100.0, "step": 0.1, "tooltip": f"-1: {stored}"},
                ),
                "flow_shift": (
                    "FLOAT",
                    {"default": 0.0, "min": 0.0, "max": 100.0, "step": 0.1, "tooltip": f"0: {stored}"},
                ),
                "cfg": ("FLOAT", {"default": 0.0, "min": 0.0, "max": 100.0, "step": 0.1, "tooltip": f"0: {stored}"}),
                "solver": ([STORED, *sorted(SOLVERS)],),
            },
            "optional": {"negative": ("CONDITIONING",)},
        }

    def sample(
        self,
        model: GraphModel,
        positive: Conditioning,
        latent: Latent,
        seed: int,
        steps: int,
        guidance: float,
        flow_shift: float,
        cfg: float,
        solver: str,
        negative: Conditioning | None = None,
    ) -> tuple[Latent]:
        with ordinary():
            pipe = model.ready()
            size = empty_size(latent, pipe.grid)
            batch = size["num_videos_per_prompt"]
            embeds = embeds_of(positive, "positive", batch)
            if len(embeds) > 1:  # a prompt for each video
                size["num_videos_per_prompt"] = 1
            settings = given(
                num_inference_steps=steps or None, guidance_scale=None if guidance < 0 else guidance,
                flow_shift=flow_shift or None, true_cfg_scale=cfg or None, solver=solver,
            )  # fmt: skip
            if negative is not None:
                settings["negative_prompt_embeds"] = embeds_of(negative, "negative", batch)
            seeds = [(seed + i) % (SEEDS + 1) for i in range(batch)]
            events = pipe.stream(prompt_embeds=embeds, output_type="latent", seed=seeds, **size, **settings)
            try:
                latents = watched(events)
            finally:
                events.close()
            factor = 1.0 if pipe.vae is None else pipe.vae.config.scaling_factor
            return ({"samples": latents / factor},)


def watched(events: Any) -> Tensor:  # [N, C, T, h, w]
    """The latents of a run, whose steps and previews ComfyUI shows; its interruption is raised here, in its thread."""
    import comfy.utils
    from comfy.model_management import throw_exception_if_processing_interrupted

    bar: Any = None
    for event in events:
        if isinstance(event, Finished):
            return event.output.latents
        throw_exception_if_processing_interrupted()
        bar = bar or comfy.utils.ProgressBar(event.total)
        bar.update_absolute(event.step, event.total, ("JPEG", preview_image(event), PREVIEW_SIDE))
    raise ArgumentError("the run ended without a result: it was canceled")


def preview_image(event: StepEvent) -> Any:
    """The middle latent frame of each video, side by side, as a PIL image."""
    from PIL import Image

    preview = event.preview[:, event.preview.shape[1] // 2]  # [N, h, w, 3]
    image = Image.fromarray(preview.transpose(0, 1).flatten(1, 2).contiguous().numpy())
    larger = max(1, PREVIEW_SIDE // max(image.size))
    return image.resize((image.width * larger, image.height * larger))


class Decode:
    """Latents to frames within a budget of memory: exact is without seams, equal to decoding in one pass."""

    CATEGORY, FUNCTION = CATEGORY, "decode"
    RETURN_TYPES: ClassVar = ("IMAGE",)
    RETURN_NAMES: ClassVar = ("frames",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        budget = {"default": 4.0, "min": 0.01, "max": 1024.0, "step": 0.25, "tooltip": "of exact, in GiB"}
        modes = ["auto", "exact", "tiled", "plain"]
        return {
            "required": {"model": (MODEL,), "latent": ("LATENT",), "mode": (modes,), "budget_gb": ("FLOAT", budget)}
        }

    def decode(self, model: GraphModel, latent: Latent, mode: str, budget_gb: float) -> tuple[Tensor]:
        budget = math.floor(budget_gb * 2**30) if mode == "exact" else None
        frames = GraphVAE(model.pipe).decode(latent["samples"], mode, budget)  # [B, F, H, W, 3]
        return (frames.flatten(0, 1),)


class Plan:
    """Memory and time of sampling and decoding an empty LATENT, before it."""

    CATEGORY, FUNCTION, OUTPUT_NODE = CATEGORY, "plan", True
    RETURN_TYPES: ClassVar = ("STRING",)
    RETURN_NAMES: ClassVar = ("plan",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        steps = {"default": 0, "min": 0, "max": 1000, "tooltip": "0: the checkpoint's own"}
        return {"required": {"model": (MODEL,), "latent": ("LATENT",), "steps": ("INT", steps)}}

    def plan(self, model: GraphModel, latent: Latent, steps: int) -> dict[str, Any]:
        with ordinary():
            size = empty_size(latent, model.pipe.grid)
            plan = model.pipe.plan(**size, **given(num_inference_steps=steps or None))
        lines = [plan_line(stage) for stage in plan.stages]
        lines.append("fits" if plan.fits else "does not fit")
        text = "\n".join([*lines, *plan.notes])
        return {"ui": {"text": [text]}, "result": (text,)}


def plan_line(stage: Any) -> str:
    seconds = "" if stage.seconds is None else f", {stage.seconds:.1f} s"
    return f"{stage.name}: device {stage.device_bytes / 1e9:.2f} GB, host {stage.host_bytes / 1e9:.2f} GB{seconds}"


NODE_CLASS_MAPPINGS = {
    "HunyuanVideoLoader": Loader,
    "HunyuanVideoLora": Lora,
    "HunyuanVideoTextEncode": TextEncode,
    "HunyuanVideoSampler": Sampler,
    "HunyuanVideoDecode": Decode,
    "HunyuanVideoPlan": Plan,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "HunyuanVideoLoader": "Hunyuan Video Loader",
    "HunyuanVideoLora": "Hunyuan Video LoRA",
    "HunyuanVideoTextEncode": "Hunyuan Video Text Encode",
    "HunyuanVideoSampler": "Hunyuan Video Sampler",
    "HunyuanVideoDecode": "Hunyuan Video Decode (exact)",
    "HunyuanVideoPlan": "Hunyuan Video Plan",
}
