"""Events of jobs as server-sent events and over a WebSocket. A client that leaves stops nothing.

Each event is the job as `GET /v1/videos/{id}` shows it, so nothing is lost by a listener that comes late, is slow or
comes back: the newest event says everything. {"type": "video.in_progress", "video": {...}, "preview": data URL}.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from typing import Any

from fastapi import APIRouter, Request, WebSocket
from starlette.responses import Response, StreamingResponse
from starlette.websockets import WebSocketDisconnect

from hunyuan_video.serving.events import Listener
from hunyuan_video.serving.problems import Problem
from hunyuan_video.serving.routes import found, owner_of, service_of
from hunyuan_video.serving.service import JobService

router = APIRouter()
BEAT = 15.0  # seconds without an event, after which a comment keeps the connection open
RETRY_MS = 1000  # until a browser connects again
GOING_AWAY = 1001
NOT_FOUND = 4404  # WebSocket close code, private range
HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


async def events_of(service: JobService, owner: str, video: str | None, previews: bool) -> AsyncGenerator[Any, None]:
    """The state of the job, or of all that are not over, then what happens; None as a sign of life."""
    listener = Listener(owner, video, previews)
    jobs = [service.get(video, owner)] if video is not None else service.unfinished(owner)
    for job in jobs:
        listener.waiting[job.id] = {"type": f"video.{job.status}", "video": service.view(job)}
        listener.changed.set()
    async for event in service.hub.listen(listener, BEAT):
        yield event
        if video is not None and event is not None and is_last(event):
            return


def is_last(event: dict[str, Any]) -> bool:
    """True for the event after which nothing happens to a job by itself."""
    return event["type"] not in ("video.queued", "video.in_progress")


async def sse(events: AsyncIterator[Any]) -> AsyncIterator[str]:
    """Server-sent events; the last one of a single job is followed by "done", upon which a client closes."""
    yield f"retry: {RETRY_MS}\n\n"
    async for event in events:
        yield ": \n\n" if event is None else f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
    yield "event: done\ndata: {}\n\n"


@router.get("/v1/events")
async def all_events(request: Request, previews: bool = False) -> Response:
    """Events of all videos of the key, as server-sent events."""
    events = events_of(service_of(request), owner_of(request), None, previews)
    return StreamingResponse(sse(events), media_type="text/event-stream", headers=HEADERS)


@router.get("/v1/videos/{video_id}/events")
async def video_events(request: Request, video_id: str, previews: bool = False) -> Response:
    """Events of one video until it is over, as server-sent events."""
    found(request, video_id)  # 404 before the stream begins
    events = events_of(service_of(request), owner_of(request), video_id, previews)
    return StreamingResponse(sse(events), media_type="text/event-stream", headers=HEADERS)


@router.websocket("/v1/events/ws")
async def socket_all(socket: WebSocket) -> None:
    """Events of all videos of the key, a JSON text each; ?previews=true, ?video=ID for one alone."""
    await socket.accept()
    service, video = socket.app.state.service, socket.query_params.get("video")
    previews = socket.query_params.get("previews", "") in ("true", "1")
    events = events_of(service, socket.state.owner, video, previews)
    sender = asyncio.create_task(_send(socket, events))
    with suppress(WebSocketDisconnect):
        leaver = asyncio.create_task(_until_left(socket))
        done, rest = await asyncio.wait((sender, leaver), return_when=asyncio.FIRST_COMPLETED)
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        await events.aclose()
        if sender in done:
            code = NOT_FOUND if isinstance(sender.exception(), Problem) else GOING_AWAY
            with suppress(RuntimeError):
                await socket.close(code if service.draining or code == NOT_FOUND else 1000)


async def _send(socket: WebSocket, events: AsyncIterator[Any]) -> None:
    async for event in events:
        if event is not None:
            await socket.send_text(json.dumps(event))


async def _until_left(socket: WebSocket) -> None:
    with suppress(WebSocketDisconnect):
        while True:
            await socket.receive_text()
