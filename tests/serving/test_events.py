"""Events of jobs: server-sent and over a WebSocket, with previews; listeners that leave."""

from __future__ import annotations

import asyncio
import base64
import io
import json

import pytest
import websockets.sync.client
from PIL import Image

from hunyuan_video.serving.events import EventHub, Listener


def sse(response, wanted=None):
    """(event, data) pairs of a stream, until `wanted` of them."""
    name, seen = "", []
    for line in response.iter_lines():
        if line.startswith("event: "):
            name = line[7:]
        elif line.startswith("data: "):
            seen.append((name, json.loads(line[6:])))
            if wanted is not None and len(seen) == wanted:
                break
    return seen


def test_a_stream_tells_every_step_with_previews_and_ends(server):
    id = server.create(num_inference_steps=40)["id"]
    with server.http.stream("GET", f"/v1/videos/{id}/events?previews=true") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        events = sse(response)
    assert events[-2][0] == "video.completed" and events[-1] == ("done", {})
    steps = [data["video"]["step"] for _, data in events[:-1]]
    assert steps == sorted(steps) and steps[-1] == 40 and len(set(steps)) > 5
    assert any(data["video"]["eta_seconds"] is not None for _, data in events[:-2])
    (_, shown), *_ = [event for event in events if event[1].get("preview")]
    kind, _, text = shown["preview"].partition(",")
    picture = Image.open(io.BytesIO(base64.b64decode(text)))
    assert kind == "data:image/webp;base64" and picture.size == (6, 4)  # a pixel for each latent


def test_a_listener_that_leaves_does_not_stop_the_job(server):
    id = server.create(num_inference_steps=40)["id"]
    with server.http.stream("GET", f"/v1/videos/{id}/events") as response:
        sse(response, wanted=2)
    assert server.finished(id)


def test_a_listener_that_comes_late_gets_the_end_at_once(server):
    id = server.create()["id"]
    server.finished(id)
    with server.http.stream("GET", f"/v1/videos/{id}/events") as response:
        assert [name for name, _ in sse(response)] == ["video.completed", "done"]
    assert server.http.get("/v1/videos/video_none/events").status_code == 404


def test_one_stream_for_all_videos(server):
    running = server.create(num_inference_steps=200)["id"]
    with server.http.stream("GET", "/v1/events") as response:
        assert sse(response, wanted=1)[0][1]["video"]["id"] == running
    with server.http.stream("GET", "/v1/events") as response:
        server.http.delete(f"/v1/videos/{running}")
        lines = response.iter_lines()
        assert any("video.deleted" in line and running in line for line in lines if line.startswith("data: "))


def test_websocket(server):
    id = server.create(num_inference_steps=40)["id"]
    address = server.url.replace("http", "ws") + f"/v1/events/ws?previews=true&video={id}"
    with websockets.sync.client.connect(address) as socket:
        events = [json.loads(text) for text in socket]
    assert events[-1]["type"] == "video.completed" and any(event.get("preview") for event in events)
    with websockets.sync.client.connect(address.replace(id, "video_none")) as socket:
        with pytest.raises(websockets.ConnectionClosed) as closed:
            socket.recv()
        assert closed.value.rcvd.code == 4404


def test_a_slow_listener_keeps_the_newest_event_of_each_job_only():
    async def run():
        hub = EventHub(lambda wanted: switched.append(wanted))
        slow = Listener("me", None, previews=True)
        stream = hub.listen(slow, 10)
        first = asyncio.ensure_future(stream.__anext__())
        await asyncio.sleep(0)
        for number in range(1000):
            hub.publish("me", f"job{number % 2}", {"number": number, "preview": "x"})
            hub.publish("other", "job9", {"number": -1})
        assert len(slow.waiting) == 2
        seen = [await first, await stream.__anext__()]
        await stream.aclose()
        return seen

    switched: list[bool] = []
    seen = asyncio.run(run())
    assert [event["number"] for event in seen] == [998, 999] and switched == [True, False]
