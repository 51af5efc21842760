"""A model's card: what the checkpoint's files say, and results given."""

import json

import pytest

from hunyuan_video.cli import main

FOLLOWING = {
    "prompts": 20, "seed": 7, "world": "narrow", "table": {"generated": {"color": 0.95, "all": 0.8125}},
}  # fmt: skip


def test_the_card_of_the_bundled_checkpoint(tmp_path, capsys):
    (tmp_path / "f.json").write_text(json.dumps(FOLLOWING))
    (tmp_path / "c.json").write_text(json.dumps({"verdict": "better", "line": "better: b than a, +0.300"}))
    results = ["--result", str(tmp_path / "f.json"), "--result", str(tmp_path / "c.json")]
    assert main(["card", "tiny", *results, "-o", str(tmp_path / "card.md")]) == 0
    text = (tmp_path / "card.md").read_text()
    assert (
        "| plain | 64 | 64 | 17 | 8 | 30 | 3.0 |" in text
        and "| few_step (default) | 64 | 64 | 17 | 8 | 4 | 1.0 |" in text
    )
    assert "toyworld `narrow`" in text and "clips 12288" in text and "| generated | 0.95 | 0.81 |" in text
    assert "- better: b than a, +0.300" in text and "- no study: `hunyuan-video eval study analyse" in text
    assert "memory: " in text and "- no following" not in text


@pytest.mark.parametrize(("content", "part"), [("{}", "no result of eval"), ("[", "again with eval")])
def test_other_files_are_refused(tmp_path, capsys, content, part):
    (tmp_path / "x.json").write_text(content)
    assert main(["card", "tiny", "--result", str(tmp_path / "x.json"), "-o", str(tmp_path / "card.md")]) == 1
    assert part in capsys.readouterr().err and not (tmp_path / "card.md").exists()
    assert main(["card", str(tmp_path / "none")]) == 1
