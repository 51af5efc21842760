"""A study's videos: one seed a prompt for all systems, resumed runs, videos made elsewhere."""

import json

import numpy as np
import pytest

from hunyuan_video.cli import main
from hunyuan_video.media import read_metadata, save_video


@pytest.fixture
def suite(tmp_path):
    path = tmp_path / "prompts.csv"
    path.write_text("id,prompt,category\nx,a red circle moves right,one\ny,a blue star moves up,two\n")
    return path


def run(capsys, *words):
    code = main(["eval", "generate", *map(str, words)])
    return code, *capsys.readouterr()


SMALL = ("--num-inference-steps", "1", "--num-frames", "5", "--height", "32", "--width", "32")


def test_systems_share_seeds_and_a_killed_run_goes_on(suite, tmp_path, capsys):
    study = tmp_path / "study"
    assert run(capsys, suite, "--model", "one=tiny", "-o", study, "--part", "0/2", *SMALL)[0] == 0
    assert sorted(path.name for path in (study / "one").iterdir()) == ["x.mp4"]
    before = (study / "one" / "x.mp4").stat().st_mtime_ns
    code, out, _ = run(capsys, suite, "--model", "one=tiny", "--model", "two=tiny:none", "-o", study, *SMALL)
    assert code == 0 and "3 videos made now" in out and (study / "one" / "x.mp4").stat().st_mtime_ns == before
    for number, name in enumerate(("x", "y")):
        records = [read_metadata(study / system / f"{name}.mp4") for system in ("one", "two")]
        assert [record["seed"] for record in records] == [2026 + number] * 2
        assert records[0]["prompt"] == records[1]["prompt"] and records[0]["command"] != records[1]["command"]
    assert json.loads((study / "study.json").read_text())["systems"]["two"]["adapter"] == "none"
    assert (
        main(["eval", "compare", str(study / "one"), str(study / "two"), "--measure", "temporal_flickering", "--json"])
        == 0
    )
    assert json.loads(capsys.readouterr().out)["pairs"] == 2
    code, _, err = run(capsys, suite, "--model", "one=tiny:none", "-o", study, *SMALL)
    assert code == 1 and "give it another name" in err
    code, _, err = run(capsys, "toyworld:narrow:2", "--model", "one=tiny", "-o", study, *SMALL)
    assert code == 1 and "another suite" in err


def test_videos_made_elsewhere_join_by_a_pattern(suite, tmp_path, capsys):
    study, other = tmp_path / "study", tmp_path / "other"
    other.mkdir()
    clip = np.zeros((3, 32, 32, 3), np.uint8)
    save_video(other / "a red circle moves right-0.mp4", clip, 8)
    words = (suite, "--join", f"closed={other}", "--pattern", "{prompt}-0.mp4", "-o", study)
    code, _, err = run(capsys, *words)
    assert code == 1 and "no video 'a blue star moves up-0.mp4' of prompt y" in err
    assert not (study / "closed").exists()  # none of them, until all are there
    (other / "a blue star moves up-0.mp4").write_bytes(b"no video")
    code, _, err = run(capsys, *words)
    assert code == 1 and "not a readable video" in err
    save_video(other / "a blue star moves up-0.mp4", clip + 9, 8)
    assert run(capsys, *words)[0] == 0
    assert sorted(path.name for path in (study / "closed").iterdir()) == ["x.mp4", "y.mp4"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--model", "tiny"), "write NAME=FOLDER"),
        (("--model", "a b=tiny"), "a name is letters"),
        (("--model", "a=tiny", "--model", "a=tiny:none"), "two systems are called a"),
        (("--join", "a=x", "--pattern", "{name}.mp4"), "use {id}, {index}, {prompt}"),
        (("--model", "a=tiny", "--part", "2/2"), "the first number is 0 to 1"),
        (("--model", "a=tiny", "--part", "2"), "write I/N"),
        ((), "name a system"),
    ],
)
def test_wrong_arguments_make_no_folder(suite, tmp_path, capsys, words, text):
    code, _, err = run(capsys, suite, *words, "-o", tmp_path / "study")
    assert code == 2 and text in err and not (tmp_path / "study").exists()
