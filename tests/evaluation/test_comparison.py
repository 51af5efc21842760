"""`hunyuan-video eval compare` and `eval metrics` on folders of drawn videos."""

import json

import numpy as np
import pytest

from hunyuan_video.cli import main
from hunyuan_video.data.toyworld import render
from hunyuan_video.evaluation.prompt_following import held_out_prompts
from hunyuan_video.media import save_video

pytest.importorskip("scipy")
COUNT = 6


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """right: what the prompts ask for; other: videos of the next prompt."""
    root = tmp_path_factory.mktemp("videos")
    scenes, prompts = held_out_prompts("narrow", COUNT, seed=11)
    clips = render(scenes, num_frames=5, size=64).numpy()
    for name, shift in (("right", 0), ("other", 1)):
        (root / name).mkdir()
        for i, prompt in enumerate(prompts):
            record = {"prompt": prompt, "model": "tiny"}
            save_video(root / name / f"{i:04d}.mp4", clips[(i + shift) % COUNT], 8, metadata=record)
    return root


def run(capsys, *words):
    code = main(["eval", *map(str, words)])
    out, err = capsys.readouterr()
    return code, out, err


def test_compare_says_worse_with_an_interval(folders, capsys):
    code, out, _ = run(capsys, "compare", folders / "right", folders / "other", "--json", "--planned", COUNT)
    result = json.loads(out)
    assert code == 0 and result["verdict"] == "worse" and result["first"] == 1.0
    assert result["difference"] == result["second"] - 1.0 and result["low"] <= result["difference"] < result["high"] < 0
    _, line, _ = run(capsys, "compare", folders / "other", folders / "right")
    assert line.startswith("better: right than other in prompt_following, +")
    _, out, _ = run(capsys, "compare", folders / "right", folders / "right", "--json")
    assert json.loads(out)["verdict"] == "cannot tell" and json.loads(out)["discordant"] == 0


def test_compare_by_another_metric_writes_the_file(folders, capsys, tmp_path):
    words = ["--measure", "ssim", "--reference", folders / "right", "-o", tmp_path / "c.json"]
    code, out, _ = run(capsys, "compare", folders / "right", folders / "other", *words)
    result = json.loads((tmp_path / "c.json").read_text())
    assert code == 0 and result["first"] == pytest.approx(1.0) and result["difference"] < 0
    assert out.splitlines()[0] == result["line"]


def test_metrics_of_a_folder(folders, capsys):
    wanted = ["--measure", "prompt_following", "--measure", "psnr", "--measure", "temporal_flickering"]
    code, out, _ = run(capsys, "metrics", folders / "other", *wanted, "--reference", folders / "right", "--json")
    result = json.loads(out)
    assert code == 0 and result["videos"] == COUNT and result["world"] == "narrow"
    follows = result["metrics"]["prompt_following"]
    assert follows["count"] == COUNT and follows["low"] <= follows["mean"] <= follows["high"] and follows["mean"] < 0.5
    each = [row["psnr"] for row in result["per_video"].values()]
    assert result["metrics"]["psnr"]["mean"] == pytest.approx(np.mean(each)) and len(each) == COUNT


def test_suites_name_the_prompts_of_videos_from_elsewhere(folders, capsys, tmp_path):
    clips = np.full((2, 5, 48, 48, 3), 90, np.uint8)
    for i, clip in enumerate(clips):
        save_video(tmp_path / f"{i}.mp4", clip, 8)
    code, _, err = run(capsys, "compare", tmp_path, tmp_path, "--world", "narrow")
    assert code == 1 and "its prompt is unknown" in err and "--suite" in err
    suite = tmp_path / "prompts.csv"
    suite.write_text('index,prompt\n0,"a red circle moves right"\n1,"a blue square, still"\n')
    code, _, err = run(capsys, "compare", tmp_path, tmp_path, "--suite", suite)
    assert code == 1 and "--world narrow or" in err
    code, out, _ = run(capsys, "compare", tmp_path, tmp_path, "--world", "narrow", "--suite", suite, "--json")
    assert code == 0 and json.loads(out)["first"] == 0.0


def test_videos_that_do_not_pair_are_refused_in_one_line(folders, capsys, tmp_path):
    (tmp_path / "few").mkdir()
    short = np.zeros((3, 64, 64, 3), np.uint8)
    for i in range(COUNT - 2):
        save_video(tmp_path / "few" / f"{i:04d}.mp4", short, 8, metadata={"prompt": "x", "model": "tiny"})
    right = folders / "right"
    cases = [
        ((right, tmp_path / "few"), 1, f"2 of {COUNT} videos of the other folder are missing here (0004, 0005)"),
        ((right, tmp_path / "none"), 1, "No such file"),
        ((tmp_path, right), 1, "no videos"),
        ((right, right, "--planned", "9"), 1, f"{COUNT} prompts are there and 9 were planned"),
        ((right, right, "--measure", "vmaf"), 2, "--measure must be one of"),
        ((right, right, "--measure", "psnr"), 2, "needs --reference"),
        ((right, right, "--reference", right), 2, "has no use for --reference"),
        ((right, right, "--interest", "0"), 2, "--interest must be above 0"),
    ]
    for words, expected, text in cases:
        code, _, err = run(capsys, "compare", *words)
        assert code == expected and text in err and len(err.strip().splitlines()) == 1, (words, err)
    for i in (COUNT - 2, COUNT - 1):
        save_video(tmp_path / "few" / f"{i:04d}.mp4", short, 8)
    code, _, err = run(capsys, "compare", right, tmp_path / "few", "--measure", "temporal_flickering")
    assert code == 1 and "3 frames of 64x64 against 5 frames of 64x64" in err
    (tmp_path / "few" / "0000.gif").write_bytes(b"GIF89a")
    code, _, err = run(capsys, "metrics", tmp_path / "few")
    assert code == 1 and "two videos of one prompt" in err
