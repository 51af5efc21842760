"""The scaling command: a study from training to plan, resume, and what it says about bad input."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from helpers.scaling_family import FAMILIES, synthetic_family

import hunyuan_video
from hunyuan_video.cli import main
from hunyuan_video.models import CausalVAE, VAEConfig
from hunyuan_video.training.scaling import PAPER, read_curves, write_curves

TINY = Path(hunyuan_video.__file__).parent / "assets" / "tiny"
MODEL = {"hidden_size": 32, "num_heads": 1, "double_blocks": 1, "rope_dims": [8, 12, 12], "text_dim": 128,
         "pooled_text_dim": 96, "guidance_embed": False, "refiner_depth": 1}  # fmt: skip
WORLD = {"name": "narrow", "size": 16, "num_frames": 5, "clips": 16}
pytest.importorskip("pyarrow", reason="loss curves are Parquet; install the extra 'scaling'")


@pytest.fixture
def study(tmp_path):
    if not (TINY / "sampling.json").exists():
        pytest.skip("the bundled checkpoint is not in this tree, and its text encoders are needed")
    torch.manual_seed(1)
    vae = CausalVAE(VAEConfig(latent_channels=4, block_out_channels=(4, 4, 4, 4), layers_per_block=1, norm_groups=2))
    vae.save_pretrained(tmp_path / "vae")
    content = {
        "kind": "scaling", "output": str(tmp_path / "out"), "points": 2, "validation_clips": 4, "min_steps": 2,
        "sizes": [{"single_blocks": n} for n in (1, 2, 3)], "budgets": [3e-8],
        "flow": {"vae": str(tmp_path / "vae"), "text": str(TINY), "model": MODEL, "world": WORLD,
                 "loop": {"batch": 4, "precision": "fp32"}, "optimizer": {"decay": 0.2}},
    }  # fmt: skip
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_study_trains_every_size_and_resumes(study, tmp_path, capsys):
    assert main(["scaling", "run", str(study), "--dry-run"]) == 0
    assert not (tmp_path / "out" / "curves.parquet").exists()
    assert main(["scaling", "run", str(study)]) == 0
    table = tmp_path / "out" / "curves.parquet"
    curves = read_curves(table)
    assert len(curves) == 3 and len({c.parameters for c in curves}) == 3
    for curve in curves:
        # 6 N D of the last point is the budget, to the rounding of whole steps (2 tokens x 4 clips each).
        assert curve.compute[-1] == pytest.approx(3e-8, rel=0.2)
        assert curve.compute == pytest.approx(6e3 * curve.parameters * curve.tokens)
        assert curve.cooldown[-1] and not curve.cooldown[0]
    assert main(["scaling", "run", str(study)]) == 1
    assert "--resume" in capsys.readouterr().err
    before = table.read_bytes()
    assert main(["scaling", "run", str(study), "--resume"]) == 0
    assert table.read_bytes() == before
    assert capsys.readouterr().out.count("done") == 3


def test_fit_and_plan(tmp_path, capsys):
    table = tmp_path / "curves.parquet"
    write_curves(table, synthetic_family(PAPER["video"], FAMILIES["video"]))
    assert main(["scaling", "fit", str(table), "--bootstrap", "5"]) == 0
    fit = json.loads((tmp_path / "fit.json").read_text())
    assert fit["envelope"]["b1"] == pytest.approx(0.3618, abs=2e-3)
    assert set(fit["envelope"]["intervals"]) == {"a1", "b1", "a2", "b2"}
    assert (tmp_path / "fit.png").read_bytes().startswith(b"\x89PNG")
    capsys.readouterr()
    assert main(["scaling", "plan", str(tmp_path / "fit.json"), "--budget", "7e7"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("envelope"))
    assert float(line.split("N = ")[1].split()[0]) == pytest.approx(13.0, rel=0.05)
    assert main(["scaling", "plan", "image", "--parameters", "13"]) == 0
    assert "D = 739.9 B" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [({"budgets": []}, "budget"), ({"sizes": [{}]}, "3 sizes"), ({"budget": [1]}, "unknown key 'budget'"),
     ({"flow": {"vaee": "x"}}, "unknown key 'vaee'"), ({"kind": "flow"}, "kind: scaling"),
     ({"points": 0}, "points must be at least 1"), ({"budgets": [float("nan")]}, "budgets must be a finite number"),
     ({"sizes": [{}, {"hidden_sise": 4}, {}]}, "sizes[1]"),
     ({"sizes": [{}, {}, {"rope_dims": [2, 2, 2]}]}, "sizes[2]")],
)  # fmt: skip
def test_bad_study_is_one_line(study, capsys, change, message):
    study.write_text(yaml.safe_dump({**yaml.safe_load(study.read_text()), **change}))
    assert main(["scaling", "run", str(study)]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["fit", "absent.parquet"], 1), (["plan", "absent.json", "--budget", "1"], 1), (["plan", "image"], 2),
     (["plan", "image", "--budget", "-1"], 2), (["fit", "x", "--level", "2"], 2), (["nothing"], 2)],
)  # fmt: skip
def test_bad_arguments_are_one_line(capsys, arguments, code):
    assert main(["scaling", *arguments]) == code
    assert capsys.readouterr().err.count("\n") == 1
