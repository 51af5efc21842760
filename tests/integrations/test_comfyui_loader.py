"""Files that are written for ComfyUI, read by its own loader: equal outputs, and no key that it does not know.

COMFYUI=FOLDER: ComfyUI's source; COMFYUI_PYTHON: a Python that has its requirements (default: this one). Ran with
0.3.64. It is on no package index: without a folder this is skipped.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hunyuan_video.checkpoints.lora import save_adapter
from hunyuan_video.cli import main
from hunyuan_video.models import CausalVAE, HunyuanVideoTransformer, TransformerConfig, VAEConfig
from hunyuan_video.models.lora import add_adapter, lora_layers

ROOT = Path(__file__).resolve().parents[2]
COMFYUI = os.environ.get("COMFYUI", "")
pytestmark = pytest.mark.skipif(not COMFYUI, reason="set COMFYUI to a folder with ComfyUI's source (it is on no index)")
# ComfyUI takes heads of 128, three axes of 16, 56 and 56, and pooled text of 768 from no file.
SIZES = TransformerConfig(
    hidden_size=256, num_heads=2, double_blocks=2, single_blocks=2, rope_dims=(16, 56, 56), text_dim=32,
    pooled_text_dim=768,
)  # fmt: skip


def read_by_comfyui(folder: Path, **given):
    given = {"transformer": "", "vae": "", "lora": "", **given}
    torch.save(given, folder / "inputs.pt")
    program = os.environ.get("COMFYUI_PYTHON", sys.executable)
    command = [program, ROOT / "tests/helpers/comfyui_loader.py", COMFYUI, folder / "inputs.pt", folder / "outputs.pt"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    return torch.load(folder / "outputs.pt", weights_only=True)


@pytest.fixture
def call():
    torch.manual_seed(5)
    return {
        "latents": torch.randn(2, 16, 3, 6, 8), "timesteps": torch.tensor([300.0, 900.0]),
        "text": torch.randn(2, 7, 32), "pooled_text": torch.randn(2, 768), "guidance": torch.full((2,), 6.0),
    }  # fmt: skip


def random_transformer(seed: int) -> HunyuanVideoTransformer:
    torch.manual_seed(seed)
    model = HunyuanVideoTransformer(SIZES).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.05)
    return model


def ours(model, call):
    with torch.no_grad():
        return model(
            call["latents"], call["timesteps"], text=call["text"], pooled_text=call["pooled_text"],
            guidance=1000 * call["guidance"],
        )  # fmt: skip


def assert_near(made, right):
    """Equal up to the rounding of float32."""
    error = (made - right).square().mean().sqrt() / right.square().mean().sqrt()
    assert error < 1e-4, f"relative error {error:.1e}"


@pytest.mark.parametrize("source", ["official", "diffusers"])
def test_a_transformer_is_read_with_equal_results(tmp_path, call, source):
    model = random_transformer(3)
    model.save_pretrained(tmp_path / "source", source)
    file = tmp_path / "one.safetensors"
    assert main(["convert", str(tmp_path / "source"), str(file), "--layout", "official"]) == 0
    made = read_by_comfyui(tmp_path, transformer=str(file), **call)
    assert made["class"] == "HunyuanVideo"
    assert_near(made["velocity"], ours(model, call))


def test_an_adapter_is_read_with_equal_results(tmp_path, call):
    model = random_transformer(4)
    file = tmp_path / "base.safetensors"
    model.save_pretrained(file, "official")
    plain = ours(model, call)
    paths = ["double_blocks.0.img_attn_qkv", "double_blocks.1.txt_mlp.fc1", "double_blocks.1.img_mod.linear",
             "single_blocks.0.linear1", "single_blocks.1.linear2", "single_blocks.1.modulation.linear"]  # fmt: skip
    add_adapter(model, "a", dict.fromkeys(paths, 4), dict.fromkeys(paths, 2.0))
    with torch.no_grad():
        for _, layer in lora_layers(model):
            layer.adapter("a").lora_B.normal_(std=0.3)
    save_adapter(model, "a", tmp_path / "lora.safetensors", names="official", dtype=torch.float32)
    adapted = ours(model, call)
    assert (adapted - plain).abs().mean() > 0.05 * plain.abs().mean()
    made = read_by_comfyui(tmp_path, transformer=str(file), lora=str(tmp_path / "lora.safetensors"), **call)
    assert not [line for line in made["log"] if "lora key not loaded" in line]
    assert_near(made["velocity"], adapted)


@pytest.mark.parametrize("layout", ["official", "diffusers"])
@pytest.mark.parametrize("frames", [1, 2])
def test_a_vae_is_read_with_equal_results(tmp_path, layout, frames):
    """ComfyUI's attention looks at all frames, ours and the release's at those so far: with several, it is left out."""
    torch.manual_seed(6)
    vae = CausalVAE(VAEConfig()).eval()
    if frames > 1:
        with torch.no_grad():
            for name, parameter in vae.named_parameters():
                if ".to_out.0." in name:
                    parameter.zero_()
    file = tmp_path / "vae.safetensors"
    vae.save_pretrained(file, layout)
    codes, pixels = torch.randn(1, 16, frames, 4, 4), torch.rand(1, 3, 4 * frames - 3, 32, 32) * 2 - 1
    made = read_by_comfyui(tmp_path, vae=str(file), codes=codes, pixels=pixels)
    with torch.no_grad():
        video, mean = vae.decode(codes, mode="plain"), vae.encode(pixels).mode()
    assert_near(made["video"], video)
    assert_near(made["codes"], mean)
