"""Proposed thresholds: they keep the wanted share of the clips, are the strictest that do, and read as a tiers file."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("pyarrow")

from hypothesis import given, settings
from hypothesis import strategies as st

from hunyuan_video.cli.entry import main
from hunyuan_video.curation.calibrate import propose
from hunyuan_video.curation.manifest import write_manifest
from hunyuan_video.curation.tiers import Filter, Tier, read_tiers

SCORES = ("motion", "shake", "sharpness", "technical", "aesthetic")


def rows(count: int, seed: int = 0) -> list[dict]:
    rng = np.random.default_rng(seed)
    return [
        {"kind": "video", "seconds": 0.5 if i % 4 == 0 else 3.0, **{name: float(rng.random()) for name in SCORES}}
        for i in range(count)
    ]


TIER = Tier("t", "video", (Filter("seconds", 1.0), Filter("motion", 0.1, 0.9), Filter("technical", 0.2)))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.floats(0.05, 1.0), st.integers(0, 5))
def test_the_wanted_share_stays(count, keep, seed):
    clips = [row for row in rows(count, seed) if row["seconds"] > 1]
    if not clips:
        return
    proposed = propose(TIER, clips, keep)
    kept = sum(proposed.refused_by(row) is None for row in clips)
    assert kept >= keep * len(clips)
    assert proposed.filters[0] == TIER.filters[0], "what a tier requires stays"


def test_one_filter_is_put_at_its_quantile():
    clips = [{"kind": "video", "technical": value / 100} for value in range(100)]
    (proposed,) = propose(Tier("t", "video", (Filter("technical", 0.5),)), clips, 0.3).filters
    assert 0.69 <= proposed.low <= 0.71
    (proposed,) = propose(Tier("t", "video", (Filter("shake", None, 0.5),)), [{"shake": 1.0}] * 3, 0.3).filters
    assert proposed.high == 1.0, "equal scores cannot be told apart"


def test_the_lines_are_a_tiers_file_that_keeps_what_they_say(tmp_path, capsys):
    clips = rows(40)
    write_manifest(tmp_path, clips, {})
    tiers = tmp_path / "tiers.yaml"
    tiers.write_text(
        "small:\n  filters:\n    seconds: {min: 1.0, required: true}\n    technical: {min: 0.9}\n"
        "    motion: {min: 0.1, max: 0.2}\n    duplicate_of: {empty: true}\n"
    )
    assert main(["curate", "calibrate", str(tmp_path), "--keep", "0.4", "-c", str(tiers)]) == 0
    text = capsys.readouterr().out
    assert "#   technical" in text and "30 clips pass" in text
    (tmp_path / "new.yaml").write_text(text)
    (tier,) = read_tiers(tmp_path / "new.yaml")
    assert [each.column for each in tier.filters] == ["seconds", "technical", "motion", "duplicate_of"]
    kept = sum(tier.refused_by(row) is None for row in clips)
    assert 12 <= kept <= 14 and f"keep {kept} (" in text


@pytest.mark.parametrize(
    ("options", "code", "line"),
    [
        (["--keep", "0"], 2, "keep must lie in"),
        (["--tier", "8k"], 2, "no tier 8k; the tiers are"),
        (["--tier", "image256"], 1, "no clips of kind image"),
        (["--tier", "sft"], 1, "no clip passes what tier sft requires"),
    ],
)
def test_wrong_arguments(tmp_path, capsys, options, code, line):
    write_manifest(tmp_path, [{"kind": "video", "seconds": 0.5}], {})
    assert main(["curate", "calibrate", str(tmp_path), *options]) == code
    assert line in capsys.readouterr().err


def test_calibrate_needs_a_manifest(tmp_path, capsys):
    assert main(["curate", "calibrate", str(tmp_path)]) == 1
    assert "run hunyuan-video curate first" in capsys.readouterr().err
