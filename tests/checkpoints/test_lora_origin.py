"""Exported students say how they are sampled and beside which weights they were trained; old ones load as before."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import pytest
import torch
from helpers.random_checkpoint import write_random_checkpoint
from safetensors.torch import load_file, save_file

from hunyuan_video import HunyuanVideoPipeline
from hunyuan_video.checkpoints import convert
from hunyuan_video.checkpoints.lora import convert_adapter
from hunyuan_video.checkpoints.lora_origin import BASE_KEY, SAMPLING_KEY
from hunyuan_video.checkpoints.safetensors_file import SafetensorsFile
from hunyuan_video.cli import main
from hunyuan_video.errors import Notice, UserError
from hunyuan_video.fingerprint import base_fingerprint
from hunyuan_video.models import HunyuanVideoTransformer
from hunyuan_video.models.lora import merge_adapters
from hunyuan_video.sampling.models import read_defaults
from hunyuan_video.training.config import StepDistillationRun
from hunyuan_video.training.tasks.step_distillation.student import ADAPTER_FILE, export_student, make_student
from hunyuan_video.training.tasks.step_distillation.task import student_settings

SETTINGS = {"num_inference_steps": 3, "flow_shift": 5.0, "solver": "lcm", "true_cfg_scale": 1.0}
PROMPT = "a red star moves left"


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return write_random_checkpoint(tmp_path_factory.mktemp("teacher"))


@pytest.fixture
def student(teacher, tmp_path):
    """The file of a student with random weights, as the distillation exports it."""
    torch.manual_seed(3)
    config = StepDistillationRun(method="dmd", steps=3, shift=5.0, guidance_scale=2.0)
    network = make_student(str(teacher / "transformer"), 2)
    for name, weight in network.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight.data, std=0.05)
    export_student(network, 2, tmp_path, student_settings(config, SimpleNamespace(solver="lcm"), network))
    return tmp_path / ADAPTER_FILE


def notices(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = call()
    return result, [str(entry.message) for entry in caught if issubclass(entry.category, Notice)]


def test_a_student_is_sampled_as_it_was_made(teacher, student):
    assert SAMPLING_KEY in SafetensorsFile(student).metadata
    pipe, heard = notices(lambda: HunyuanVideoPipeline.from_pretrained(teacher, device="cpu", adapter=str(student)))
    assert heard == []
    for name, value in SETTINGS.items():
        assert getattr(pipe.defaults, name) == value, name
    assert (pipe.defaults.height, pipe.defaults.fps) == (32, 8)  # the checkpoint's
    plain = HunyuanVideoPipeline.from_pretrained(teacher, device="cpu", adapter=str(student))
    wanted = plain(PROMPT, seed=1, output_type="latent", **SETTINGS).latents
    assert torch.equal(pipe(PROMPT, seed=1, output_type="latent").latents, wanted)
    own = pipe(PROMPT, seed=1, output_type="latent", num_inference_steps=1)
    assert own.settings["num_inference_steps"] == 1 and own.settings["solver"] == "lcm"


def test_the_command_line_says_and_uses_them(teacher, student, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["sample", PROMPT, "--model", str(teacher), "--adapter", str(student), "-o", "a.webp"]) == 0
    error = capsys.readouterr().err
    assert "made for flow_shift 5, num_inference_steps 3, solver lcm, true_cfg_scale 1" in error
    assert "step 3/3" in error and "other weights" not in error
    assert main(["show", "a.webp"]) == 0
    assert "--num-inference-steps 3" in capsys.readouterr().out


def test_the_checkpoints_own_word_comes_first(teacher, student):
    (teacher / "adapters").mkdir(exist_ok=True)
    (teacher / "adapters/fast.safetensors").write_bytes(student.read_bytes())
    assert read_defaults(teacher, "fast").num_inference_steps == 3
    from hunyuan_video.checkpoints.adapters import adapter_defaults

    values = {"num_inference_steps": 30, "adapters": {"fast": {"num_inference_steps": 7}}}
    assert adapter_defaults(teacher, values, "fast") == {**values, "num_inference_steps": 7}


def test_converted_students_keep_their_settings(teacher, student, tmp_path):
    config = HunyuanVideoTransformer.from_pretrained(teacher / "transformer").config
    made = convert_adapter(student, tmp_path / "kohya.safetensors", "kohya", config=config)
    assert read_defaults(teacher, str(made)).num_inference_steps == 3
    assert SafetensorsFile(made).metadata[BASE_KEY] == SafetensorsFile(student).metadata[BASE_KEY]


def test_other_weights_are_told(teacher, student, tmp_path):
    other = write_random_checkpoint(tmp_path / "other", seed=1)
    load = HunyuanVideoPipeline.from_pretrained
    _, heard = notices(lambda: load(other, device="cpu", adapter=str(student)))
    assert len(heard) == 1 and "trained beside other weights" in heard[0] and "\n" not in heard[0]
    _, heard = notices(lambda: load(other, device="cpu", adapter="none").load_lora_weights(student))
    assert len(heard) == 2 and "was made for" in heard[0] and "trained beside other weights" in heard[1]
    _, heard = notices(lambda: load(teacher, device="cpu", adapter="none").load_lora_weights(student))
    assert len(heard) == 1


def test_the_base_is_known_in_every_precision_and_layout(teacher, student, tmp_path):
    convert(teacher / "transformer", tmp_path / "official", "official", "bfloat16")
    whole = HunyuanVideoTransformer.from_pretrained(teacher / "transformer")
    made = SafetensorsFile(student).metadata[BASE_KEY]
    assert base_fingerprint(whole) == made
    assert base_fingerprint(HunyuanVideoTransformer.from_pretrained(tmp_path / "official")) == made
    network = make_student(str(teacher / "transformer"), 2)
    assert base_fingerprint(network) == made
    with torch.no_grad():
        whole.single_blocks[0].linear1.weight.mul_(1.1)
    assert base_fingerprint(whole) != made
    merge_adapters(network)  # of zeros: the same weights
    assert base_fingerprint(network) == made


def test_weights_that_are_rounded_otherwise_are_not_compared(teacher, student, tmp_path):
    from hunyuan_video.checkpoints.lora import check_adapter_base

    for kind in ("fp8", "int8"):
        network = HunyuanVideoTransformer.from_pretrained(teacher / "transformer", quantize=kind)
        assert notices(lambda network=network: check_adapter_base(network, student))[1] == []


def test_older_students_load_as_before(teacher, student, tmp_path):
    save_file(load_file(student), tmp_path / "old.safetensors", {"format": "pt"})
    pipe, heard = notices(
        lambda: HunyuanVideoPipeline.from_pretrained(teacher, device="cpu", adapter=str(tmp_path / "old.safetensors"))
    )
    assert heard == [] and pipe.defaults.num_inference_steps == 4  # the checkpoint's


@pytest.mark.parametrize("text", ["no JSON", "[1]", '{"num_inference_steps": [3]}'])
def test_damaged_settings_are_one_line(teacher, student, tmp_path, text):
    save_file(load_file(student), tmp_path / "bad.safetensors", {SAMPLING_KEY: text})
    with pytest.raises(UserError, match="is no table of settings") as caught:
        read_defaults(teacher, str(tmp_path / "bad.safetensors"))
    assert "\n" not in str(caught.value)
