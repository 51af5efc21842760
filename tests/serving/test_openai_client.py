"""OpenAI's own client against a running server: every method of client.videos that has a meaning here."""

from __future__ import annotations

import io
import json

import numpy as np
import openai
import pytest
from helpers.video_server import PROMPT
from PIL import Image

from hunyuan_video.cli import main
from hunyuan_video.media import probe, read_metadata

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


def test_create_poll_and_download_gives_the_bytes_of_the_command_line(client, checkpoint, tmp_path):
    video = client.videos.create_and_poll(prompt=PROMPT, size="48x32", extra_body={"seed": 5, "num_inference_steps": 3})
    assert (video.status, video.progress, video.object, video.size) == ("completed", 100, "video", "48x32")
    assert video.model == checkpoint.name and video.prompt == PROMPT and video.error is None
    assert video.created_at <= video.completed_at < video.expires_at
    assert video.seconds == "0.625" and video.seed == 5 and video.total_steps == 3
    content = client.videos.download_content(video.id).read()
    command = ["sample", PROMPT, "--model", str(checkpoint), "--device", "cpu", "--seed", "5"]
    assert main([*command, "--num-inference-steps", "3", "-o", str(tmp_path / "a.mp4")]) == 0
    assert content == (tmp_path / "a.mp4").read_bytes()
    assert read_metadata(tmp_path / "a.mp4")["settings"]["num_inference_steps"] == 3


def test_unset_fields_are_the_models_defaults(client):
    video = client.videos.create(prompt=PROMPT)
    assert (video.status in ("queued", "in_progress")) and video.size == "48x32"
    wanted = {"num_inference_steps": 4, "true_cfg_scale": 3.0, "flow_shift": 3.0, "num_frames": 5, "solver": "euler"}
    assert {name: video.settings[name] for name in wanted} == wanted
    assert isinstance(video.seed, int)


def test_extensions_arrive_with_their_types_from_forms_and_from_json(client, server):
    given = {"num_frames": 1, "guidance_scale": 1e-07, "negative_prompt": "", "seed": 2**63 - 1, "solver": "heun"}
    by_form = client.videos.create(prompt=PROMPT, extra_body=given)
    by_json = server.create(**given)
    for video in (by_form.to_dict(), by_json):
        assert video["seed"] == 2**63 - 1 and video["negative_prompt"] == ""
        assert video["settings"]["guidance_scale"] == 1e-07 and video["settings"]["solver"] == "heun"


def test_seconds_become_the_nearest_number_of_frames(client):
    video = client.videos.create(prompt=PROMPT, seconds="1")
    assert (video.seconds, video.settings["num_frames"]) == ("1", 9)  # 8 frames a second, 4k + 1


def test_variants(client, server, tmp_path):
    video = server.create()
    server.finished(video["id"])
    thumbnail = Image.open(io.BytesIO(client.videos.download_content(video["id"], variant="thumbnail").read()))
    sheet = Image.open(io.BytesIO(client.videos.download_content(video["id"], variant="spritesheet").read()))
    assert (thumbnail.format, thumbnail.size, sheet.format) == ("WEBP", (48, 32), "PNG")
    frames = np.asarray(sheet)
    assert frames.shape[0] * frames.shape[1] >= 5 * 48 * 32
    assert np.array_equal(np.asarray(thumbnail.convert("RGB")), frames[:32, :48])
    path = tmp_path / "video.mp4"
    path.write_bytes(client.videos.download_content(video["id"]).read())
    assert probe(path).frames == 5
    with pytest.raises(openai.BadRequestError, match="variant"):
        client.videos.download_content(video["id"], variant="hologram")


def test_list_pages_through_all_in_both_orders(client, server):
    made = [server.create(num_frames=1, num_inference_steps=1)["id"] for _ in range(5)]
    newest = [video.id for video in client.videos.list(limit=2)]
    assert newest[:5] == made[::-1] and len(set(newest)) == len(newest)
    oldest = [video.id for video in client.videos.list(limit=2, order="asc")]
    assert oldest == newest[::-1]
    page = client.videos.list(limit=1, after=made[4])
    assert page.data[0].id == made[3] and page.has_more


def test_delete_forgets_the_video_and_its_files(client, server):
    video = server.create()
    server.finished(video["id"])
    place = server.data / "jobs" / video["id"]
    assert place.is_dir()
    gone = client.videos.delete(video["id"])
    assert (gone.id, gone.object, gone.deleted) == (video["id"], "video.deleted", True)
    assert not place.exists()
    with pytest.raises(openai.NotFoundError) as error:
        client.videos.retrieve(video["id"])
    assert (error.value.type, error.value.param, error.value.code) == ("invalid_request_error", "video_id", "not_found")
    assert error.value.request_id.startswith("req_")


def test_cancel_keeps_the_state_and_continue_ends_with_the_same_bytes(client, server):
    unbroken = server.finished(server.create(num_inference_steps=60)["id"])
    video = server.create(num_inference_steps=60)
    server.until(video["id"], lambda video: 0 < video["step"] < 50)
    cancelled = client.post(f"/videos/{video['id']}/cancel", cast_to=openai.types.Video)
    assert (cancelled.status, cancelled.error.code) == ("cancelled", "cancelled")
    again = client.post(f"/videos/{video['id']}/continue", cast_to=openai.types.Video)
    assert again.status in ("queued", "in_progress")
    assert server.finished(video["id"]) == unbroken
    with pytest.raises(openai.BadRequestError, match="only a cancelled or failed one continues"):
        client.post(f"/videos/{video['id']}/continue", cast_to=openai.types.Video)


def test_remix_keeps_seed_and_settings(client, server):
    source = server.create(seed=9, num_inference_steps=2, height=16, width=32)
    video = client.videos.remix(source["id"], prompt="a blue circle", extra_body={"num_frames": 1, "size": None})
    assert (video.remixed_from_video_id, video.prompt, video.seed) == (source["id"], "a blue circle", 9)
    assert (video.size, video.settings["num_frames"], video.settings["num_inference_steps"]) == ("32x16", 1, 2)
    other = client.videos.remix(source["id"], prompt="a blue circle", extra_body={"size": "48x32"})
    assert other.size == "48x32"


def test_a_job_that_is_not_done_has_no_content(client, server):
    video = server.create(num_inference_steps=300)
    with pytest.raises(openai.NotFoundError, match="no content yet"):
        client.videos.download_content(video["id"])
    server.http.delete(f"/v1/videos/{video['id']}")


def test_an_idempotency_key_makes_one_job(client):
    videos = [
        client.videos.create(prompt=PROMPT, extra_headers={"Idempotency-Key": "once"}, extra_body={"num_frames": 1})
        for _ in range(3)
    ]
    assert len({video.id for video in videos}) == 1


@pytest.mark.parametrize(
    ("given", "param", "text"),
    [
        ({"num_frames": 6}, "num_frames", r"must be 4k \+ 1, got 6; nearest: 5 or 9"),
        ({"num_frames": 1.5}, "num_frames", "must be a whole number"),
        ({"guidance_scale": float("nan")}, "guidance_scale", "must be a finite number"),
        ({"solver": "magic"}, "solver", "must be one of euler"),
        ({"seed": -1}, "seed", "between 0 and"),
        ({"num_frame": 5}, "num_frame", "did you mean 'num_frames'"),
        ({"loras": ["../secret"]}, "loras", "no LoRA '../secret' here; there are: none"),
        ({"size": "64"}, "size", "WIDTHxHEIGHT"),
        ({"size": "48x32", "width": 48}, "size", "not both"),
        ({"seconds": "1", "num_frames": 5}, "seconds", "not both"),
        ({"model": "sora-2"}, "model", "is not served here"),
        ({"prompt": " "}, None, "prompt is empty"),
    ],
    ids=str,
)
def test_wrong_values_are_one_line_with_the_parameters_name(client, given, param, text):
    with pytest.raises(openai.BadRequestError, match=text) as error:
        client.videos.create(prompt=given.pop("prompt", PROMPT), extra_body=given)
    assert error.value.param in (param, "prompt") and "\n" not in error.value.message


def test_models_and_unsupported_methods(client, checkpoint):
    (model,) = client.models.list().data
    assert model.id == checkpoint.name and model.defaults["num_frames"] == 5
    assert client.models.retrieve(model.id).id == model.id
    with pytest.raises(openai.BadRequestError, match="does not edit or extend"):
        client.videos.edit(prompt="x", video=("a.mp4", b"x"))
    with pytest.raises(openai.NotFoundError, match="no such route"):
        client.post("/images/generations", cast_to=object, body={})


def test_metrics_and_health(server):
    server.finished(server.create()["id"])
    text = server.http.get("/metrics").text
    assert 'hunyuan_video_jobs_ended_total{status="completed"}' in text
    assert "hunyuan_video_workers_ready 1.0" in text and "hunyuan_video_step_seconds_bucket" in text
    assert server.http.get("/health").json() == {"status": "ok"}


def test_the_description_has_every_argument_of_a_run(server):
    from hunyuan_video.sampling.request import ARGUMENTS
    from hunyuan_video.serving.parameters import OWN

    body = server.http.get("/openapi.json").json()["paths"]["/v1/videos"]["post"]["requestBody"]["content"]
    wanted = {name for name, known in ARGUMENTS.items() if known.flag} - set(OWN)
    assert len(wanted) > 10
    for kind in ("application/json", "multipart/form-data"):
        assert wanted <= set(body[kind]["schema"]["properties"])
    assert json.dumps(body).count("num_inference_steps") == 2
