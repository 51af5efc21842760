"""The door: keys, addresses, other sites, sizes, pictures, names; limits of the queue and of the disk."""

from __future__ import annotations

import io
import json

import httpx
import pytest
from fastapi.testclient import TestClient
from helpers.random_checkpoint import write_random_checkpoint
from helpers.video_server import PROMPT
from PIL import Image

from hunyuan_video.cli import main
from hunyuan_video.errors import ArgumentError
from hunyuan_video.serving.app import make_app
from hunyuan_video.serving.body import checked_picture
from hunyuan_video.serving.config import ServerConfig
from hunyuan_video.serving.problems import Problem

KEYS = ("key-of-ann-1234", "key-of-bob-1234")
REQUEST = {"prompt": PROMPT, "seed": 1}


@pytest.fixture
def client_of(checkpoint, tmp_path, monkeypatch):
    """`client_of(option=value)`: a client of a server without workers: jobs wait for ever."""
    monkeypatch.setattr("hunyuan_video.serving.pool.Pool.start", lambda pool: None)
    clients = []

    def make(**options) -> TestClient:
        config = ServerConfig(data=tmp_path / f"data{len(clients)}", model=str(checkpoint), **options)
        client = TestClient(make_app(config), base_url="http://127.0.0.1")
        client.__enter__()
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.__exit__(None, None, None)


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def error_of(answer) -> dict:
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_an_address_that_others_reach_needs_a_key(tmp_path, host, capfd):
    assert main(["serve", "--host", host, "--data", str(tmp_path)]) == 2
    assert "no key is set" in capfd.readouterr().err
    assert ServerConfig(data=tmp_path, host=host, api_keys=KEYS).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "::1"])
def test_loopback_needs_none(tmp_path, host):
    assert ServerConfig(data=tmp_path, host=host).host == host


@pytest.mark.parametrize(
    "wrong", [{"api_keys": ("short",)}, {"api_keys": ("clé-de-huit-ou-plus",)}, {"port": -1}, {"active": 0},
              {"max_queue": 0}, {"keep_days": 0.0}, {"max_upload_mb": float("nan")}], ids=str
)  # fmt: skip
def test_settings_that_cannot_work(tmp_path, wrong):
    with pytest.raises(ArgumentError, match=next(iter(wrong)).rstrip("s").replace("_", "-")):
        ServerConfig(data=tmp_path, **wrong)


@pytest.mark.parametrize("path", ["/v1/videos", "/v1/models", "/metrics", "/v1/events", "/openapi.json", "/v1/none"])
def test_every_route_but_health_needs_the_key(client_of, path):
    client = client_of(api_keys=KEYS)
    assert client.get("/health").status_code == 503  # no worker, but an answer
    for headers in (
        {},
        bearer("key-of-eve-1234"),
        bearer(""),
        {"authorization": KEYS[0]},
        {"authorization": b"Bearer k\xe9y"},
    ):
        answer = client.get(path, headers=headers)
        assert answer.status_code == 401 and error_of(answer)["code"] == "invalid_api_key"
    if path != "/v1/events":
        assert client.get(path, headers=bearer(KEYS[1])).status_code in (200, 404)


def test_each_key_sees_its_own_videos(client_of):
    client = client_of(api_keys=KEYS)
    id = client.post("/v1/videos", json=REQUEST, headers=bearer(KEYS[0])).json()["id"]
    for method, path in (
        ("GET", f"/v1/videos/{id}"),
        ("DELETE", f"/v1/videos/{id}"),
        ("POST", f"/v1/videos/{id}/cancel"),
        ("POST", f"/v1/videos/{id}/remix"),
        ("GET", f"/v1/videos/{id}/content"),
        ("GET", f"/v1/videos/{id}/events"),
        ("GET", f"/v1/videos?after={id}"),
    ):
        assert client.request(method, path, headers=bearer(KEYS[1])).status_code == 404, path
    assert client.get("/v1/videos", headers=bearer(KEYS[1])).json()["data"] == []
    assert len(client.get("/v1/videos", headers=bearer(KEYS[0])).json()["data"]) == 1


@pytest.mark.parametrize("headers", [{"host": "evil.example"}, {"origin": "https://evil.example"}, {"origin": "null"}])
def test_pages_of_other_sites_cannot_use_a_server_without_keys(client_of, headers):
    client = client_of()
    answer = client.post("/v1/videos", json=REQUEST, headers=headers)
    assert answer.status_code == 403 and error_of(answer)["type"] == "permission_error"
    assert client.post("/v1/videos", json=REQUEST, headers={"origin": "http://127.0.0.1"}).status_code == 200


def test_a_full_queue_is_429_with_a_short_wait(client_of):
    client = client_of(max_queue=3)
    assert [client.post("/v1/videos", json=REQUEST).status_code for _ in range(3)] == [200] * 3
    answer = client.post("/v1/videos", json=REQUEST)
    assert answer.status_code == 429 and error_of(answer)["code"] == "queue_full"
    assert 1 <= int(answer.headers["retry-after"]) <= 15
    first = client.get("/v1/videos?order=asc").json()["data"][0]
    assert first["queue_position"] == 1
    client.delete(f"/v1/videos/{first['id']}")
    assert client.post("/v1/videos", json=REQUEST).status_code == 200


def test_the_limit_of_one_key_leaves_room_for_another(client_of):
    client = client_of(api_keys=KEYS, max_queue_per_key=1)
    codes = [client.post("/v1/videos", json=REQUEST, headers=bearer(key)).status_code for key in (*KEYS, KEYS[0])]
    assert codes == [200, 200, 429]


def test_large_requests_are_refused_with_and_without_a_length(client_of):
    client = client_of(max_upload_mb=0.1)
    big = b"x" * 1_200_000
    answer = client.post("/v1/videos", content=big, headers={"content-type": "application/json"})
    assert answer.status_code == 413 and error_of(answer)["code"] == "too_large"
    pieces = (big[:100_000] for _ in range(12))
    answer = client.post("/v1/videos", content=pieces, headers={"content-type": "application/json"})
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"prompt": "a\\u0000b"}', "without NUL"),
        (b'{"prompt": "a \\ud800 b"}', "valid Unicode"),
        (b'{"prompt": "a", "guidance_scale": NaN}', "no JSON number"),
        (b'{"prompt": "a", "guidance_scale": 1e999}', "finite"),
        (b'{"prompt": "a", "seed": 18446744073709551616}', "seed must be between"),
        (b'{"prompt": "a", "num_frames": true}', "must be a number, got a boolean"),
        (b'{"prompt": ["a", "b"]}', "prompt must be text, got a list"),
        (b'{"prompt": "a", "input_reference": "/etc/passwd"}', "must be a file of a multipart form"),
        (b'{"prompt": "a", "resume_from": "/etc/passwd"}', "unknown parameter"),
        (b'{"prompt": "a", "checkpoint_to": "/etc/x"}', "unknown parameter"),
        (b'{"prompt": "a", "image": "/etc/passwd"}', "unknown parameter"),
        (b'{"prompt": "a", "loras": [{"name": "a", "path": "/etc"}]}', "an entry of loras"),
        (b'{"prompt": "a", "loras": [{"name": "../../a"}]}', "no LoRA"),
        (b"[1]", "must be a JSON object"),
        (b'{"prompt"', "not valid JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'"\\x00"', "not valid JSON"),
        (b"", "prompt is missing"),
    ],
    ids=str,
)
def test_bodies_that_cannot_work(client_of, body, text):
    answer = client_of().post("/v1/videos", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400 and text in error_of(answer)["message"]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v1/videos/..%2f..%2fjobs.sqlite", 404),
        ("/v1/videos/..%2f..%2fjobs.sqlite/content", 404),
        ("/v1/videos/%00", 404),
        ("/v1/videos/%f0%9f%8e%a5", 404),
        ("/v1/videos?after=%ed%a0%80", 404),
        ("/v1/videos?limit=0", 400),
        ("/v1/videos?order=sideways", 400),
    ],
)
def test_paths_reach_no_file(client_of, path, code):
    answer = client_of().get(path)
    assert answer.status_code == code and error_of(answer)["message"]


def picture(size=(40, 30), format="PNG", **options) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, "red").save(file, format, **options)
    return file.getvalue()


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_pictures_are_known_by_their_content(format):
    made = Image.open(io.BytesIO(checked_picture(picture(format=format), 50)))
    assert (made.format, made.size) == ("PNG", (40, 30))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (picture(format="GIF"), "no PNG, JPEG or WebP"),
        (b"%PDF-1.7", "no PNG, JPEG or WebP"),
        (picture()[:-30], "damaged"),
        (picture((8000, 8000)), "more than 50 megapixels"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no PNG, JPEG or WebP"),
    ],
    ids=["gif", "pdf", "cut", "bomb", "svg"],
)
def test_other_uploads_are_refused(content, text):
    with pytest.raises(Problem, match=text):
        checked_picture(content, 50)


def test_a_picture_for_a_model_that_takes_none(client_of):
    answer = client_of().post("/v1/videos", data={"prompt": PROMPT}, files={"input_reference": ("../../a", picture())})
    assert answer.status_code == 400 and error_of(answer)["param"] == "input_reference"


def test_loras_come_from_the_folder_alone(client_of, tmp_path):
    folder = tmp_path / "loras"
    folder.mkdir()
    (folder / "style.safetensors").write_bytes(b"x")
    (tmp_path / "secret.safetensors").write_bytes(b"x")
    client = client_of(loras=folder)
    assert client.get("/v1/models").json()["data"][0]["loras"] == ["style"]
    for loras in (["style:0.5"], [{"name": "style", "weight": 0.5}], "style:0.5"):
        video = client.post("/v1/videos", json={**REQUEST, "loras": loras}).json()
        assert video["loras"] == [{"name": "style", "weight": 0.5}]
    form = {"prompt": PROMPT, "loras[][name]": "style", "loras[][weight]": "0.5"}
    assert client.post("/v1/videos", data=form).json()["loras"] == [{"name": "style", "weight": 0.5}]
    for loras in (["../secret"], [str(tmp_path / "secret.safetensors")], ["style", "style"], ["style:nan"], [3]):
        assert client.post("/v1/videos", json={**REQUEST, "loras": loras}).status_code == 400


def test_files_go_when_they_expire_or_the_disk_is_full(client_of):
    client = client_of()
    service = client.app.state.service
    ids = [client.post("/v1/videos", json=REQUEST).json()["id"] for _ in range(3)]
    for age, id in enumerate(ids):
        job = service.store.known(id)
        place = service.store.place(job)
        place.mkdir()
        (place / "video.mp4").write_bytes(b"x" * 1000)
        service.queue.remove(job)
        service._live.pop(id)
        job.status, job.completed_at, job.size_bytes = "completed", 1e9 * (age > 0) + 100 * age, 1000
        service.store.update(job)
    service.config = ServerConfig(**{**vars_of(service.config), "keep_days": 1e5})
    service.clean()
    assert [service.store.known(id) is None for id in ids] == [False, False, False]
    service.config = ServerConfig(**{**vars_of(service.config), "max_disk_gb": 2.5e-6})
    service.clean()
    assert [service.store.known(id) is None for id in ids] == [True, False, False]
    service.config = ServerConfig(**{**vars_of(service.config), "keep_days": 1.0})
    service.clean()
    assert list(service.store.jobs.iterdir()) == []


def vars_of(config: ServerConfig) -> dict:
    return {name: getattr(config, name) for name, known in config.__dataclass_fields__.items() if known.init}


def test_a_damaged_checkpoint_ends_the_server_with_one_line(tmp_path, capfd):
    folder = write_random_checkpoint(tmp_path / "model")
    next((folder / "vae").glob("*.safetensors")).write_bytes(b"cut")
    assert main(["serve", "--port", "0", "--data", str(tmp_path / "data"), "--model", str(folder)]) == 1
    lines = capfd.readouterr().err.splitlines()
    assert lines[-1].startswith("hunyuan-video serve:") and "safetensors" in lines[-1]
    assert not any("Traceback" in line for line in lines)


def test_a_taken_port_and_a_missing_model_are_one_line(server, tmp_path, capfd):
    port = str(httpx.URL(server.url).port)
    assert main(["serve", "--port", port, "--data", str(tmp_path)]) == 1
    assert "choose another --port" in capfd.readouterr().err
    assert main(["serve", "--port", "0", "--model", "none", "--data", str(tmp_path)]) == 1
    assert "no checkpoint folder" in capfd.readouterr().err


def test_prompts_are_text_everywhere(client_of):
    prompt = "<script>alert(1)</script> $(rm -rf /) {0} ../../x '; DROP TABLE jobs; -- \u202e \U0001f600"
    client = client_of()
    video = client.post("/v1/videos", json={"prompt": prompt}).json()
    assert client.get(f"/v1/videos/{video['id']}").json()["prompt"] == prompt
    assert json.loads(client.get("/v1/videos").text)["data"][0]["prompt"] == prompt
