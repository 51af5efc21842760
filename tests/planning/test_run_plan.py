"""Plans of sampling runs: counts against what a GPU held, limits of machines, what is chosen and what is refused."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import hunyuan_ext as ops
from hunyuan_ext.core import dispatch, native, plain
from hunyuan_ext.core.rehearsal import Machine
from hunyuan_video.cli.entry import main
from hunyuan_video.errors import ArgumentError
from hunyuan_video.models import HunyuanVideoTransformer, TransformerConfig, VAEConfig
from hunyuan_video.models.transformer.executor import PLAIN
from hunyuan_video.planning.budget import host_limit, parse_size
from hunyuan_video.planning.decoding import decode_bytes
from hunyuan_video.planning.gpus import card_of, rates_of
from hunyuan_video.planning.live import counted, tensor_bytes
from hunyuan_video.planning.ranks import halves
from hunyuan_video.planning.run_plan import Choice, Demand, Target, plan_lines, plan_run
from hunyuan_video.planning.sizes import empty_transformer, released_sizes, weights_of
from hunyuan_video.sampling.planned import plan_sampling

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
HOPPER = Machine("cuda", (9, 0))
CLIP = (16, 33, 90, 160)  # latents of 129 x 720 x 1280
SIZE = {"num_frames": 129, "height": 720, "width": 1280}


def recorded_blocks():
    table = json.loads((RESULTS / "blocks-nvidia-h200-2026-11-28.json").read_text())
    return [row for row in table["blocks"] if row["commit"] == table["after"]]


@pytest.mark.parametrize("row", recorded_blocks(), ids=lambda row: f"{row['block']}-{row['fp8']}")
@pytest.mark.parametrize("whole", [False, True])
def test_counts_are_what_an_h200_held(row, whole):
    """One block at 720p x 129 frames: the peak above the weights, in parts and whole, within 10 %."""
    double = row["block"] == "double"
    config = replace(TransformerConfig(), double_blocks=int(double), single_blocks=int(not double))
    model = empty_transformer(config, "fp8" if row["fp8"] else "bf16", torch.bfloat16)
    model.set_attention_precision("fp8" if row["fp8"] else "auto")
    if whole:
        model.executor = PLAIN
    with counted(HOPPER, model) as live:
        text, pooled = torch.empty(1, 256, 4096), torch.empty(1, 768)
        model(torch.empty(1, *CLIP), torch.empty(1), text=text, pooled_text=pooled, guidance=torch.empty(1))
    held = row["unchunked_above_gb" if whole else "above_weights_gb"] * 1e9
    assert abs(live.most / held - 1) < 0.1


def test_tiled_decode_is_what_an_h200_held():
    """12.0 GB with the weights, at 1c023b8 (nvidia-h200-2026-11-27-1955)."""
    above = decode_bytes(VAEConfig(), CLIP, "tiled", torch.float16, HOPPER, None)
    assert abs((above + 0.49e9) / 12.0e9 - 1) < 0.1


@pytest.mark.parametrize(("precision", "total"), [("bf16", 25.64), ("fp8", 13.2)])
def test_weights_of_the_released_model(precision, total):
    weights = weights_of(TransformerConfig(), precision, torch.bfloat16)
    assert len(weights.blocks) == 60 and abs(weights.total / 1e9 - total) < 0.05
    assert weights.modulations / (sum(weights.blocks) + weights.modulations) == pytest.approx(0.273, abs=0.002)


def test_weights_are_those_of_the_whole_model():
    config = replace(TransformerConfig(), hidden_size=64, num_heads=2, rope_dims=(8, 12, 12), double_blocks=3)
    for precision in ("bf16", "fp8", "int8"):
        whole = tensor_bytes(empty_transformer(config, precision, torch.bfloat16))
        assert weights_of(config, precision, torch.bfloat16).total == whole


def test_other_threads_compute_meanwhile():
    """A rehearsal is one thread's: kernels of the others run, and nothing of it is remembered."""
    x, shift, scale = torch.randn(1, 40, 64), torch.randn(1, 64), torch.randn(1, 64)
    wanted, before = ops.layer_norm_modulate(x, shift, scale), native.module
    got = []
    model = empty_transformer(TransformerConfig(double_blocks=1, single_blocks=0), "bf16", torch.bfloat16)
    with counted(HOPPER, model):
        assert plain.device_type(torch.empty(1)) == "cuda"
        other = threading.Thread(target=lambda: got.append(ops.layer_norm_modulate(x, shift, scale)))
        other.start()
        other.join()
        assert dispatch.choice("attention", "cuda", torch.bfloat16).native
    assert torch.equal(got[0], wanted) and native.module is before
    assert dispatch.choice("attention", "cuda", torch.bfloat16).native == torch.cuda.is_available()
    assert plain.device_type(x) == "cpu"


@given(st.integers(1, 999), st.sampled_from(["", "K", "M", "G", "T"]), st.booleans(), st.sampled_from(["", "B", "b"]))
def test_sizes(number, unit, binary, tail):
    power = 1 + "KMGT".find(unit) if unit else 0
    step = 1024 if binary and unit else 1000
    text = f"{number}{unit.lower()}{'i' if binary and unit else ''}{tail}"
    assert parse_size("host_memory", text) == number * step**power


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "16 XB", "1e9", "0", "nan", "16iB", True, -5, float("nan")])
def test_wrong_sizes(text):
    with pytest.raises(ArgumentError, match="device_memory must be a size such as"):
        parse_size("device_memory", text)


def test_limits_of_control_groups(tmp_path):
    """Both versions; the least of the ancestors; "max" and missing files are no limits."""
    whole = host_limit(tmp_path, tmp_path / "missing")
    process = tmp_path / "cgroup"
    groups = (
        ("a/b", "memory.max", ["5000000", "max"]),
        ("memory/c/d", "memory.limit_in_bytes", ["7000000", "9000000"]),
    )
    for folder, name, values in groups:
        (tmp_path / folder).mkdir(parents=True)
        for path, value in zip((tmp_path / folder, (tmp_path / folder).parent), reversed(values), strict=True):
            (path / name).write_text(value + "\n")
    process.write_text("0::/a/b\n")
    assert host_limit(tmp_path, process) == 5000000
    process.write_text("11:cpu,memory:/c/d\n3:pids:/x\n")
    assert host_limit(tmp_path, process) == 7000000
    process.write_text("11:memory:/not/there\n")
    assert host_limit(tmp_path, process) == whole


def ways(*kinds):
    return [Choice(kind, torch.bfloat16, memory) for kind in kinds for memory in ("resident", "stream")]


def test_the_first_way_that_fits():
    sizes, demand = released_sizes(), Demand(**SIZE, steps=50)
    large = plan_run(sizes, demand, Target("cuda", (9, 0), "H200", 140 * 10**9), ways("bf16"))
    assert large.fits and large.choices["memory"] == "resident" and large.choices["vae_mode"] == "tiled"
    denoising = next(stage for stage in large.stages if stage.name == "denoising")
    assert 600 < denoising.seconds < 1000 and "1c023b8" in large.choices["rates"]
    small = plan_run(sizes, demand, Target("cuda", (8, 9), "RTX4090", 16 * 10**9), ways("bf16"))
    assert small.fits and small.choices["memory"] == "stream" and 0 < small.choices["kept_blocks"] < 60
    assert small.device_peak_bytes < 16e9 and "not measured" in small.choices["rates"]
    tiny = plan_run(sizes, demand, Target("cuda", (8, 0), "", 8 * 10**9), ways("bf16"))
    assert tiny.fits and tiny.choices["vae_mode"] == "exact"


def test_several_gpus():
    """Eight share tokens and blocks: an eighth of the time, and of what streamed blocks take between steps."""
    one, eight = (
        plan_run(released_sizes(), Demand(**SIZE, steps=50), Target("cuda", (9, 0), "H200", 140 * 10**9, ranks=ranks),
                 [Choice("bf16", torch.bfloat16, "stream")])
        for ranks in (1, 8)
    )  # fmt: skip
    first, shared = ({stage.name: stage for stage in plan.stages} for plan in (one, eight))
    assert shared["denoising"].seconds == pytest.approx(first["denoising"].seconds / 8)
    assert shared["decode"].seconds == pytest.approx(first["decode"].seconds / 8)
    assert eight.choices["kept_blocks"] == 8 and eight.choices["ranks"] == 8
    # 3 double and 5 single blocks of their own, two double ones on their way
    assert 2.3e9 < eight.choices["kept_bytes"] < 2.6e9 and shared["denoising"].device_bytes < 8e9
    assert halves(8, True, "cuda") == 2 and halves(3, True, "cuda") == halves(8, True, "cpu") == 1


def test_nothing_fits():
    sizes = released_sizes()
    plan = plan_run(sizes, Demand(**SIZE, steps=50), Target("cuda", (8, 0), "", 5 * 10**9), ways("bf16"))
    assert not plan.fits and plan.nearest_fit is not None
    again = plan_run(sizes, Demand(**plan.nearest_fit, steps=50), Target("cuda", (8, 0), "", 5 * 10**9), ways("bf16"))
    assert again.fits
    floor = plan_run(sizes, Demand(**SIZE, steps=50), Target("cuda", (8, 0), "", 10**9), ways("bf16"))
    assert not floor.fits and floor.nearest_fit is None and "nor does any smaller" in plan_lines(floor)[2]


def test_the_command(capsys):
    assert main("plan --height 720 --width 1280 --num-frames 129 --device-memory 16GB --json".split()) == 0
    plan = json.loads(capsys.readouterr().out)
    assert [stage["name"] for stage in plan["stages"]] == [
        "text_encoders", "modulation_table", "denoising", "decode", "mp4"]  # fmt: skip
    assert plan["fits"] and plan["nearest_fit"] is None and plan["device_peak_bytes"] < 16e9
    assert {"precision", "memory", "vae_mode"} <= set(plan["choices"])
    assert main("plan --model tiny --device cpu --gpu nothing".split()) == 2
    assert main("plan --host-memory 12QB".split()) == 2
    assert main("plan --model tiny --device cpu --height 100".split()) == 2
    assert len(capsys.readouterr().err.splitlines()) == 3


def test_precisions_that_are_not_possible():
    with pytest.raises(ArgumentError, match="int8 products are for CPUs"):
        plan_sampling("released", {}, gpu="h100", precision="int8")
    with pytest.raises(ArgumentError, match="memory must be one of"):
        plan_sampling("tiny", {}, device="cpu", memory="some")
    plan = plan_sampling("tiny", {}, device="cpu", precision="int8")
    assert plan.choices["precision"] == "int8" and plan.notes


def test_cards():
    assert card_of("NVIDIA GeForce RTX 4090")[0] == "RTX4090" and card_of("nvidia h100 80gb hbm3")[0] == "H100"
    assert rates_of("") is None and rates_of("H200").attention["bf16"] > rates_of("A100").attention["bf16"]
    with pytest.raises(ArgumentError, match="--gpu must be one of"):
        card_of("abacus")


def test_a_model_is_not_changed_by_a_count():
    model = HunyuanVideoTransformer(TransformerConfig(
        hidden_size=32, num_heads=1, double_blocks=1, single_blocks=1, rope_dims=(8, 12, 12), text_dim=8,
        pooled_text_dim=8, guidance_embed=False))  # fmt: skip
    inputs = dict(text=torch.randn(1, 4, 8), pooled_text=torch.randn(1, 8))
    latents, time = torch.randn(1, 16, 1, 4, 4), torch.tensor([500.0])
    with torch.no_grad():
        before = model(latents, time, **inputs)
        plan_sampling("tiny", {}, device="cpu")
        assert torch.equal(before, model(latents, time, **inputs))


@pytest.mark.parametrize(
    ("given", "steps"),
    [({"video": "a.mp4", "strength": 0.5}, 15), ({"video": "a.mp4"}, 24), ({"sigmas": "1,0.5,0.2"}, 3), ({}, 30)],
)
def test_the_steps_that_are_run_are_planned(given, steps):
    """A start leaves the first steps of the schedule out; own noise levels are steps."""
    plans = {name: plan_sampling("tiny", arguments, adapter="none", gpu="h200") for name, arguments in
             (("given", given), ("same", {"num_inference_steps": steps}))}  # fmt: skip
    seconds = {
        name: next(stage.seconds for stage in plan.stages if "denois" in stage.name) for name, plan in plans.items()
    }
    assert seconds["given"] == seconds["same"] and seconds["same"] is not None
