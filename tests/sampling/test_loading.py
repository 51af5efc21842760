"""Checkpoint folders of both layouts give the same pipeline; defaults come from sampling.json or the released model."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from hunyuan_video import HunyuanVideoPipeline, UserError
from hunyuan_video.checkpoints import convert
from hunyuan_video.checkpoints.configs import read_grid
from hunyuan_video.checkpoints.layout import BUNDLED
from hunyuan_video.checkpoints.pipeline import default_dtype, vae_dtype
from hunyuan_video.errors import PrecisionWarning
from hunyuan_video.sampling.models import read_defaults
from hunyuan_video.sampling.request import NEGATIVE_PROMPT, SamplingDefaults

PROMPT = "a red star moves left"


def test_official_layout_gives_the_same_video(pipe, checkpoint, tmp_path):
    convert(checkpoint, tmp_path / "ckpts", "official")
    official = HunyuanVideoPipeline.from_pretrained(tmp_path / "ckpts", device="cpu", dtype=torch.float32)
    assert np.array_equal(official(PROMPT, seed=1).frames, pipe(PROMPT, seed=1).frames)
    model_folder = tmp_path / "ckpts" / "hunyuan-video-t2v-720p"
    inner = HunyuanVideoPipeline.from_pretrained(model_folder, device="cpu", parts=("transformer",))
    assert inner.transformer.config == pipe.transformer.config


def test_defaults_without_sampling_json_are_the_released_models(tmp_path):
    assert read_defaults(tmp_path) == SamplingDefaults()
    assert SamplingDefaults().negative_prompt == NEGATIVE_PROMPT
    (tmp_path / "sampling.json").write_text('{"height": 64, "world": "narrow"}')
    assert read_defaults(tmp_path) == SamplingDefaults(height=64, negative_prompt="")


def test_grid_is_read_from_the_configs(checkpoint, pipe):
    assert read_grid(checkpoint) == pipe.grid
    assert pipe.grid.multiple == 16 and pipe.grid.latent_shape(17, 64, 48) == (16, 5, 8, 6)


@pytest.mark.parametrize("content", ["{", "[]", '{"prompt_template": {"image": {}}}'])
def test_damaged_sampling_json_is_told(checkpoint, tmp_path, content):
    import shutil

    shutil.copytree(checkpoint, tmp_path / "model")
    (tmp_path / "model" / "sampling.json").write_text(content)
    with pytest.raises(UserError, match="sampling.json") as caught:
        HunyuanVideoPipeline.from_pretrained(tmp_path / "model", device="cpu")
    assert "\n" not in str(caught.value)


def test_a_missing_bundled_checkpoint_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(BUNDLED, "tiny", tmp_path)
    with pytest.raises(UserError, match="bundled checkpoint 'tiny' is not in this installation; install it again"):
        HunyuanVideoPipeline.from_pretrained("tiny")


def test_unknown_checkpoints_are_told(tmp_path):
    with pytest.raises(UserError, match="no checkpoint folder 'large'; give a folder, or one of: tiny"):
        HunyuanVideoPipeline.from_pretrained("large")
    with pytest.raises(UserError, match="not a HunyuanVideo checkpoint"):
        HunyuanVideoPipeline.from_pretrained(tmp_path)


def test_dtypes_by_device():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert (default_dtype(cpu), default_dtype(gpu)) == (torch.float32, torch.bfloat16)
    assert (vae_dtype(None, cpu), vae_dtype(torch.bfloat16, cpu)) == (torch.float32, torch.float32)
    assert (vae_dtype(None, gpu), vae_dtype(torch.float32, gpu)) == (torch.float16, torch.float32)


@pytest.mark.parametrize("native, dtype", [(True, torch.bfloat16), (False, torch.float32)])
def test_float16_on_a_cpu_becomes_a_usable_dtype_with_one_warning(checkpoint, monkeypatch, native, dtype):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: native)
    with pytest.warns(PrecisionWarning, match="float16 is not usable on a CPU") as warned:
        pipe = HunyuanVideoPipeline.from_pretrained(checkpoint, device="cpu", dtype=torch.float16)
    assert len(warned) == 1 and pipe.transformer.dtype == dtype
    stored = {weight.dtype for part in (pipe.text_encoder, pipe.clip_text_encoder) for weight in part.parameters()}
    assert stored == {dtype} and next(pipe.vae.parameters()).dtype == torch.float32


def test_float16_parts_that_come_to_a_cpu_leave_it(checkpoint):
    pipe = HunyuanVideoPipeline.from_pretrained(checkpoint, device="cpu", dtype=torch.float32)
    pipe.vae.half(), pipe.text_encoder.half()
    with pytest.warns(PrecisionWarning) as warned:
        pipe.to("cpu")
    usable = {next(part.parameters()).dtype for part in (pipe.vae, pipe.text_encoder)}
    assert len(warned) == 1 and usable <= {torch.bfloat16, torch.float32}
    assert pipe.transformer.dtype == torch.float32
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipe.to("cpu")


@pytest.mark.skipif(
    not (BUNDLED["tiny"] / "model_index.json").exists(), reason="the bundled checkpoint is not there yet"
)
def test_the_bundled_checkpoint_samples():
    pipe = HunyuanVideoPipeline.from_pretrained("tiny", device="cpu")
    out = pipe("a red circle moves right", seed=1, num_inference_steps=2)
    defaults = pipe.defaults
    assert out.frames.shape == (1, defaults.num_frames, defaults.height, defaults.width, 3)
    assert out.tokens["text_encoder"][0].dropped == "" and out.frames.std() > 1


@pytest.mark.skipif(
    not (BUNDLED["tiny"] / "model_index.json").exists(), reason="the bundled checkpoint is not there yet"
)
def test_the_bundled_checkpoint_holds_student_and_teacher_in_16_megabytes():
    student, teacher = read_defaults(BUNDLED["tiny"]), read_defaults(BUNDLED["tiny"], "none")
    assert (student.num_inference_steps, student.true_cfg_scale, student.solver) == (4, 1.0, "lcm")
    assert (teacher.num_inference_steps, teacher.true_cfg_scale, teacher.solver) == (30, 3.0, "euler")
    assert sum(file.stat().st_size for file in BUNDLED["tiny"].rglob("*") if file.is_file()) <= 16e6
