"""Files that we write for others, read back by them with equal results: whole folders and students; bytes."""

from __future__ import annotations

import json

import pytest
import torch
from helpers.tiny_models import TINY, randomized
from safetensors import safe_open

from hunyuan_video import HunyuanVideoPipeline
from hunyuan_video.checkpoints import convert
from hunyuan_video.checkpoints.lora import convert_adapter, load_adapter, save_adapter
from hunyuan_video.checkpoints.lora_origin import SAMPLING_KEY, origin_header
from hunyuan_video.checkpoints.lora_save import NAMES
from hunyuan_video.models import HunyuanVideoTransformer
from hunyuan_video.models.lora import add_adapter, remove_adapters, target_linears

PROMPT = "a large red star moves right on a gray background, the camera is static"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The bundled checkpoint through both layouts, as `convert` writes it."""
    folder = tmp_path_factory.mktemp("written")
    convert("tiny", folder / "official", "official")
    convert(folder / "official", folder / "diffusers", "diffusers")
    return folder / "diffusers"


def test_diffusers_reads_the_whole_folder(written):
    """Its `from_pretrained` finds every class by our index and configs, and the parts compute what ours compute."""
    diffusers = pytest.importorskip("diffusers")
    pytest.importorskip("transformers")
    theirs = diffusers.HunyuanVideoPipeline.from_pretrained(written, torch_dtype=torch.float32)
    ours = HunyuanVideoPipeline.from_pretrained(written, device="cpu", adapter="none")
    assert theirs.scheduler.config.shift == ours.defaults.flow_shift == 1.0
    frame = ours.text_encoder.template.video
    tokens = theirs.tokenizer([frame.fill(PROMPT)], return_tensors="pt")
    embeds, _ = ours.encode_prompt(PROMPT)
    used = int(embeds.mask.sum())
    with torch.no_grad():
        states = theirs.text_encoder(**tokens, output_hidden_states=True).hidden_states[-3]
        pooled = theirs.text_encoder_2(**theirs.tokenizer_2([PROMPT], return_tensors="pt")).pooler_output
    torch.testing.assert_close(states[:, frame.crop_start :], embeds.text[:, :used], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(pooled, embeds.pooled, rtol=1e-3, atol=1e-4)
    noise = torch.randn((1, *ours.grid.latent_shape(5, 64, 64)), generator=torch.Generator().manual_seed(3))
    sizes = {"height": 64, "width": 64, "num_frames": 5, "num_inference_steps": 2, "output_type": "latent"}
    theirs.text_encoder = theirs.text_encoder_2 = None
    theirs.set_progress_bar_config(disable=True)
    wanted = theirs(
        prompt_embeds=embeds.text, prompt_attention_mask=embeds.mask, pooled_prompt_embeds=embeds.pooled,
        latents=noise, **sizes,
    ).frames  # fmt: skip
    made = ours(prompt_embeds=embeds, latents=noise, true_cfg_scale=1.0, **sizes)
    torch.testing.assert_close(made.latents, wanted, atol=1e-3, rtol=1e-3)


@pytest.fixture
def student(transformer):
    """A transformer with a student's adapter, as the distillation leaves it."""
    add_adapter(transformer, "few_step", dict.fromkeys(target_linears(transformer), 2))
    for name, weight in transformer.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight.data, std=0.05)
    return transformer


def header(student):
    return origin_header(student, {"num_inference_steps": 4, "solver": "lcm"})


def test_diffusers_with_peft_reads_a_student_and_we_read_what_it_saves(student, tmp_path):
    """Our header's entries do not disturb it; saved by it, the adapter gives the same weights here."""
    pytest.importorskip("peft")
    diffusers = pytest.importorskip("diffusers")
    path = save_adapter(student, "few_step", tmp_path / "few_step.safetensors", torch.float32, metadata=header(student))
    base = remove_adapters(_copy(student)).save_pretrained(tmp_path / "transformer")
    theirs = diffusers.HunyuanVideoTransformer3DModel.from_pretrained(base)
    pipeline = diffusers.HunyuanVideoPipeline
    state, metadata = pipeline.lora_state_dict(str(path), return_lora_metadata=True)
    pipeline.load_lora_into_transformer(state, theirs, adapter_name="few_step", metadata=metadata)
    given = {"latents": torch.randn(1, 4, 2, 4, 4, generator=torch.Generator().manual_seed(0)),
             "text": torch.ones(1, 5, 24), "pooled": torch.ones(1, 20), "guidance": torch.tensor([6000.0])}  # fmt: skip
    with torch.no_grad():
        wanted = ours_of(student, given)
        result = theirs(given["latents"], torch.tensor([500.0]), given["text"], torch.ones(1, 5, dtype=torch.long),
                        given["pooled"], given["guidance"]).sample  # fmt: skip
        torch.testing.assert_close(result, wanted, rtol=1e-3, atol=1e-4)
        theirs.save_lora_adapter(tmp_path / "saved", adapter_name="few_step", weight_name="again.safetensors")
        again = HunyuanVideoTransformer.from_pretrained(base)
        load_adapter(again, tmp_path / "saved/again.safetensors")
        torch.testing.assert_close(ours_of(again, given), wanted, rtol=1e-4, atol=1e-5)
    assert (wanted - ours_of(HunyuanVideoTransformer.from_pretrained(base), given)).abs().max() > 0.01


def ours_of(model, given):
    with torch.no_grad():
        return model(given["latents"], torch.tensor([500.0]), text=given["text"], text_mask=torch.ones(1, 5),
                     pooled_text=given["pooled"], guidance=given["guidance"])  # fmt: skip


def _copy(model):
    twin = randomized(HunyuanVideoTransformer(TINY))
    state = {
        name.replace("base_layer.", ""): value for name, value in model.state_dict().items() if "adapters" not in name
    }
    twin.load_state_dict(state)
    return twin


@pytest.mark.parametrize("names", NAMES)
def test_the_safetensors_library_reads_a_student_in_all_names(student, tmp_path, names):
    path = save_adapter(student, "few_step", tmp_path / "a.safetensors", metadata=header(student))
    made = convert_adapter(path, tmp_path / f"{names}.safetensors", names, config=TINY)
    with safe_open(made, "pt") as file:
        assert json.loads(file.metadata()[SAMPLING_KEY]) == {"num_inference_steps": 4, "solver": "lcm"}
        assert all(file.get_tensor(name).isfinite().all() for name in file.keys())  # noqa: SIM118 (no mapping)


@pytest.mark.parametrize("kind", ["student", "fp8", "int8", "shards"])
def test_the_same_thing_is_the_same_bytes(student, tmp_path, kind):
    """The library would order several entries of a header by chance."""
    for run in ("one", "two"):
        folder = tmp_path / run
        folder.mkdir()
        if kind == "student":
            save_adapter(student, "few_step", folder / "a.safetensors", metadata=header(student))
            continue
        source = _copy(student).save_pretrained(folder / "source")
        dtype = None if kind == "shards" else kind
        convert(source, folder / "made", "diffusers", dtype, max_shard_size=30_000)
    first = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert first and all(
        (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in first
    )
