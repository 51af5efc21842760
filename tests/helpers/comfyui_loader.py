"""Reads files with ComfyUI's own loader: python comfyui_loader.py FOLDER OF COMFYUI, inputs.pt, outputs.pt.

inputs: "transformer", "vae", "lora": files ("" for none), and the tensors of a call. Runs in a process of its own, in
float32 on the CPU; writes what ComfyUI made of them, and which keys of a LoRA it did not know.
"""

from __future__ import annotations

import logging
import os
import sys

import torch
from comfyui_start import register_fake


def main(folder: str, source: str, target: str) -> None:
    torch.library.register_fake = register_fake
    sys.path.insert(0, folder)
    os.chdir(folder)
    sys.argv = ["main.py", "--cpu", "--force-fp32"]
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.lora
    import comfy.sd
    import comfy.utils

    given, made = torch.load(source, weights_only=True), {}
    log = Lines()
    logging.getLogger().addHandler(log)
    if given["transformer"]:
        patcher = comfy.sd.load_diffusion_model(given["transformer"], model_options={"dtype": torch.float32})
        if given["lora"]:
            weights = comfy.utils.load_torch_file(given["lora"], safe_load=True)
            patcher, _ = comfy.sd.load_lora_for_models(patcher, None, weights, 1.0, 0.0)
        patcher.patch_model()
        model = patcher.model.diffusion_model
        with torch.no_grad():
            call = {"context": given["text"], "y": given["pooled_text"], "guidance": given["guidance"]}
            made["velocity"] = model(given["latents"], given["timesteps"], **call)
        made["class"] = type(patcher.model).__name__
    if given["vae"]:
        vae = comfy.sd.VAE(sd=comfy.utils.load_torch_file(given["vae"], safe_load=True), dtype=torch.float32)
        vae.throw_exception_if_invalid()
        with torch.no_grad():
            made["video"] = vae.first_stage_model.decode(given["codes"])
            made["codes"] = vae.first_stage_model.encode(given["pixels"])
    made["log"] = log.lines
    torch.save(made, target)


class Lines(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


if __name__ == "__main__":
    main(*sys.argv[1:])
