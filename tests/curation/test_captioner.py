"""Captions by a model behind an OpenAI-compatible server: batched, tried again, kept, listed if missing."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from helpers.chat_server import chat_server
from helpers.moving_pictures import pan, texture, write_video
from PIL import Image

for name in ("cv2", "pyarrow"):
    pytest.importorskip(name)

from hunyuan_video.cli.entry import main  # noqa: E402
from hunyuan_video.curation.captioner import ASKED, FOLDER, MISSING, caption, clip_pictures  # noqa: E402
from hunyuan_video.curation.endpoint import AnswerError, Endpoint, json_object  # noqa: E402
from hunyuan_video.curation.manifest import FILE, read_about, read_rows, write_manifest  # noqa: E402
from hunyuan_video.errors import ArgumentError, UserError  # noqa: E402

GOOD = json.dumps(
    {"short description": "A  cat\nsleeps.", "style": "documentary", "camera movement": "zoom in", "x": 1}
)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def curated(tmp_path) -> Path:
    """A manifest of three pictures and a duplicate."""
    rows = []
    for number in range(4):
        Image.fromarray(texture(20 + number, 60, 80)).save(tmp_path / f"{number}.png")
        measured = {"dense description": "A picture.", "camera movement": "pan left"}
        rows.append(
            {"clip": f"c{number}", "source": f"{number}.png", "root": str(tmp_path), "kind": "image", "start": 0.0,
             "end": 0.0, "start_frame": 0, "end_frame": 1, "clear_start": 0, "width": 80, "height": 60,
             "crop": [0, 0, 40, 60], "caption": json.dumps(measured), "tiers": ["low"] if number else [],
             "duplicate_of": "c0" if number == 3 else None}
        )  # fmt: skip
    write_manifest(tmp_path, rows, {"sources": json.dumps({"sources": 4})})
    return tmp_path


def endpoint(server, **settings) -> Endpoint:
    return Endpoint(server.url, "eye", **{"sleep": lambda seconds: None, **settings})


def captions(output: Path) -> dict[str, dict[str, str]]:
    return {row["clip"]: json.loads(row["caption"]) for row in read_rows(output / FILE)}


def test_answers_go_into_the_manifest_and_measured_fields_stay(curated):
    with chat_server(lambda number, request: f"Here it is:\n```json\n{GOOD}\n```") as server:
        summary = caption(curated, endpoint(server, key="secret"), batch=2)
    assert (summary.clips, summary.now, summary.missing) == (3, 3, [])
    written = captions(curated)
    assert written["c0"] == {
        "short description": "A cat sleeps.", "dense description": "A picture.", "style": "documentary",
        "camera movement": "pan left",
    }  # fmt: skip
    assert written["c3"] == {"dense description": "A picture.", "camera movement": "pan left"}, "a duplicate"
    assert read_about(curated / FILE) == {"sources": {"sources": 4}} and not (curated / MISSING).exists()
    request = server.requests[0]
    assert (
        request["path"] == "/v1/chat/completions"
        and request["model"] == "eye"
        and set(server.keys) == {"Bearer secret"}
    )
    text, picture = request["messages"][0]["content"]
    assert all(json.dumps(name) in text["text"] for name in ASKED)
    data = base64.b64decode(picture["image_url"]["url"].removeprefix("data:image/jpeg;base64,"))
    assert Image.open(io.BytesIO(data)).size == (40, 60), "the crop"


def test_a_run_goes_on_where_one_ended_and_lists_what_is_missing(curated, capsys):
    def answer(number, request):
        return (400, {}, '{"error": {"message": "picture too\\nlarge"}}') if number == 1 else GOOD

    lines: list[str] = []
    with chat_server(answer) as server:
        summary = caption(curated, endpoint(server), batch=1, report=lines.append)
        assert len(server.requests) == 3, "a refused picture is not tried again"
        assert (summary.now, [entry.path for entry in summary.missing]) == (2, ["c1"])
        assert lines == ["no caption: c1 of 1.png: 400 picture too large"]
        assert json.loads((curated / MISSING).read_text())["path"] == "c1"
        assert "short description" not in captions(curated)["c1"]
        assert main(["curate", "caption", str(curated), "--endpoint", server.url, "--model", "eye"]) == 0
        assert len(server.requests) == 4 and not (curated / MISSING).exists()
        assert "1 captioned now, 2 before" in capsys.readouterr().out
        assert caption(curated, Endpoint(server.url, "other"), tier="low").now == 3, "another model, a tier's clips"


@pytest.mark.parametrize(
    "bad", [(503, {"Retry-After": "7"}, "busy"), (429, {}, "{}"), (200, {}, "no JSON"), "I cannot.", "[1]", ""]
)
def test_what_may_pass_is_tried_again(curated, bad):
    pauses: list[float] = []
    with chat_server(lambda number, request: bad if number < 2 else GOOD) as server:
        ask = endpoint(server, timeout=0.2 if bad == "" else 20.0, tries=30, sleep=pauses.append)
        assert ask.ask("?", [])["style"] == "documentary"
    assert pauses[:2] == ([7.0, 7.0] if isinstance(bad, tuple) and bad[1] else [1.0, 2.0])


def test_time_outs_are_listed(curated):
    with chat_server(lambda number, request: "") as server:
        summary = caption(curated, endpoint(server, timeout=0.1, tries=2), batch=3, report=lambda line: None)
    assert [entry.detail for entry in summary.missing] == ["no answer within 0.1 s"] * 3
    assert summary.now == 0 and len(server.requests) <= 6


def test_an_endpoint_that_is_not_there(curated):
    with chat_server(lambda number, request: GOOD) as server:
        gone = endpoint(server, tries=2)
    with pytest.raises(AnswerError, match="no connection"):
        gone.ask("?", [])


@pytest.mark.parametrize("status", [401, 404])
def test_what_no_clip_passes_ends_the_run_and_keeps_what_came(curated, status):
    with (
        chat_server(lambda number, request: (status, {}, '{"error": "wrong key"}') if number else GOOD) as server,
        pytest.raises(UserError, match=f"{status} wrong key; check --endpoint"),
    ):
        caption(curated, endpoint(server), batch=1)
    assert len(server.requests) == 2 and captions(curated)["c0"]["style"] == "documentary"


def test_pictures_of_a_video_are_spread_over_the_clip_and_in_its_crop(tmp_path):
    write_video(
        tmp_path / "a.mp4",
        [np.stack([np.full((48, 64, 3), 20 + 5 * i, np.uint8) for i in range(40)]), pan(1, 5, 48, 64)],
    )
    row = {"source": "a.mp4", "root": str(tmp_path), "kind": "video", "clip": "c", "start": 0.0, "end": 1.6,
           "start_frame": 0, "end_frame": 40, "clear_start": 0, "width": 64, "height": 48,
           "crop": [0, 0, 64, 24]}  # fmt: skip
    pictures = [np.asarray(Image.open(io.BytesIO(data))) for data in clip_pictures(row)]
    assert [picture.shape for picture in pictures] == [(24, 64, 3)] * 4
    assert [round(float(picture.mean())) for picture in pictures] == pytest.approx([20, 70, 120, 170], abs=6)


@pytest.mark.parametrize("text", ["", "{", "} {", "null", "[{}]x", "{" * 5000, '{"a": 1} {"b": 2}'])
def test_text_without_an_object(text):
    if text == "[{}]x":
        assert json_object(text) == {}
        return
    with pytest.raises(AnswerError):
        json_object(text)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ([], "say with --endpoint"),
        (["--endpoint", "localhost:8000", "--model", "m"], "endpoint must be a URL"),
        (["--endpoint", "file:///etc/passwd", "--model", "m"], "endpoint must be a URL"),
        (["--endpoint", "http://localhost/v1"], "say with --model"),
        (["--endpoint", "http://localhost/v1", "--model", "m", "--timeout", "0"], "timeout must be above 0"),
        (["--endpoint", "http://localhost/v1", "--model", "m", "--batch", "0"], "batch must be at least 1"),
    ],
)
def test_wrong_arguments(curated, capsys, options, line):
    assert main(["curate", "caption", str(curated), *options]) == 2
    assert line in capsys.readouterr().err


def test_a_damaged_caption_is_named(curated):
    (curated / FOLDER).mkdir()
    (curated / FOLDER / "c1.json").write_text("{")
    with pytest.raises(UserError, match="c1.json"):
        caption(curated, Endpoint("http://127.0.0.1:9/v1", "eye"))
    with pytest.raises(ArgumentError, match="batch"):
        caption(curated, Endpoint("http://127.0.0.1:9/v1", "eye"), batch=0)
