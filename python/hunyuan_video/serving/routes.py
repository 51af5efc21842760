"""Routes of the videos API, as OpenAI's client calls it, and what this server adds: cancel, continue."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import FileResponse, JSONResponse, Response

from hunyuan_video.serving.body import read_body, read_picture
from hunyuan_video.serving.parameters import json_schema, read_video_request
from hunyuan_video.serving.problems import Problem
from hunyuan_video.serving.service import JobService
from hunyuan_video.serving.store import COMPLETED, IMAGE, SHEET, THUMBNAIL, VIDEO, Job

router = APIRouter()
POLL_MS = 500  # what clients that wait are told; OpenAI's sleep a second without
FILES = {"video": (VIDEO, "video/mp4"), "thumbnail": (THUMBNAIL, "image/webp"), "spritesheet": (SHEET, "image/png")}
Variant = Literal["video", "thumbnail", "spritesheet"]
MAX_KEY = 255  # characters of an Idempotency-Key
Limit = Annotated[int, Query(ge=1, le=100)]


def service_of(request: Request) -> JobService:
    return request.app.state.service


def owner_of(request: Request) -> str:
    return request.state.owner


def found(request: Request, video_id: str) -> Job:
    """The job of a path."""
    return service_of(request).get(video_id, owner_of(request))


def shown(request: Request, job: Job, status: int = 200) -> JSONResponse:
    headers = {} if job.ended else {"openai-poll-after-ms": str(POLL_MS)}
    return JSONResponse(service_of(request).view(job), status, headers)


def _body() -> dict[str, Any]:
    schema = json_schema()
    file = {"type": "string", "format": "binary", "description": "a picture: what an image-to-video model continues"}
    form = {**schema, "properties": {**schema["properties"], "input_reference": file}}
    content = {"application/json": {"schema": schema}, "multipart/form-data": {"schema": form}}
    return {"requestBody": {"required": True, "content": content}}


def _remix_body() -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": json_schema()}}}}


@router.post("/v1/videos", openapi_extra=_body())
async def create(request: Request) -> Response:
    """Queues a video. JSON, or a form with a picture as `input_reference`."""
    service = service_of(request)
    values = await read_body(request)
    key = request.headers.get("idempotency-key")
    if key is not None and not (0 < len(key) <= MAX_KEY and key.isascii() and key.isprintable()):
        raise Problem(400, f"Idempotency-Key must be 1 to {MAX_KEY} ASCII characters", code="invalid_value")
    picture = await read_picture(values.pop("input_reference", None), service.config.max_image_megapixels)
    wanted = read_video_request(values, service.defaults, service.grid, service.config.model_id, service.loras())
    service.check_picture(picture is not None)
    return shown(request, service.create(owner_of(request), wanted, image=picture, idempotency=key))


@router.get("/v1/videos")
async def list_videos(
    request: Request, after: str | None = None, limit: Limit = 20, order: Literal["asc", "desc"] = "desc"
) -> Response:
    """The key's videos, a page at a time."""
    service = service_of(request)
    jobs, more = service.page(owner_of(request), after, limit, order == "desc")
    ends = {"first_id": jobs[0].id, "last_id": jobs[-1].id} if jobs else {"first_id": None, "last_id": None}
    return JSONResponse({"object": "list", "data": [service.view(job) for job in jobs], "has_more": more, **ends})


@router.post("/v1/videos/edits", include_in_schema=False)
@router.post("/v1/videos/extensions", include_in_schema=False)
@router.post("/v1/videos/characters", include_in_schema=False)
@router.get("/v1/videos/characters/{name}", include_in_schema=False)
async def unsupported() -> Response:
    raise Problem(400, "this server makes and remixes videos; it does not edit or extend", code="unsupported")


@router.get("/v1/videos/{video_id}")
async def retrieve(request: Request, video_id: str) -> Response:
    """A video's state."""
    return shown(request, found(request, video_id))


@router.delete("/v1/videos/{video_id}")
async def delete(request: Request, video_id: str) -> Response:
    """Forgets a video and its files; one that runs is canceled."""
    service_of(request).delete(found(request, video_id))
    return JSONResponse({"id": video_id, "object": "video.deleted", "deleted": True})


@router.get("/v1/videos/{video_id}/content")
async def content(request: Request, video_id: str, variant: Variant = "video") -> Response:
    """The mp4, its first frame as WebP, or all its frames as a PNG."""
    job = found(request, video_id)
    if job.status != COMPLETED:
        raise Problem(404, f"the video is {job.status}; there is no content yet", code="not_ready", param="video_id")
    name, kind = FILES[variant]
    path = service_of(request).store.place(job) / name
    if not path.is_file():
        raise Problem(404, "the file of this video is gone", code="not_found", param="video_id")
    return FileResponse(path, media_type=kind, filename=f"{job.id}{path.suffix}", content_disposition_type="inline")


@router.post("/v1/videos/{video_id}/cancel")
async def cancel(request: Request, video_id: str) -> Response:
    """Ends a video that waits or is being made; its state is kept."""
    return shown(request, service_of(request).cancel(found(request, video_id)))


@router.post("/v1/videos/{video_id}/continue")
async def resume(request: Request, video_id: str) -> Response:
    """Queues a canceled or failed video again; it goes on at its step."""
    return shown(request, service_of(request).resume(found(request, video_id)))


@router.post("/v1/videos/{video_id}/remix", openapi_extra=_remix_body())
async def remix(request: Request, video_id: str) -> Response:
    """A new video with another's settings, seed and picture, and what the request changes of them."""
    service, source = service_of(request), found(request, video_id)
    changes = {name: value for name, value in (await read_body(request)).items() if value is not None}
    if "input_reference" in changes:
        raise Problem(400, "a remix keeps the picture of its source", code="invalid_value", param="input_reference")
    kept = dict(source.arguments)
    if "size" in changes:
        kept = {name: value for name, value in kept.items() if name not in ("width", "height")}
    if "seconds" in changes:
        kept.pop("num_frames", None)
    if "num_inference_steps" in changes or "flow_shift" in changes:
        kept.pop("sigmas", None)
    if "sigmas" in changes:
        kept = {name: value for name, value in kept.items() if name not in ("num_inference_steps", "flow_shift")}
    loras = [{"name": name, "weight": weight} for name, weight in source.loras]
    values = {"prompt": source.prompt, "loras": loras, **kept, **changes}
    wanted = read_video_request(values, service.defaults, service.grid, service.config.model_id, service.loras())
    picture = (service.store.place(source) / IMAGE).read_bytes() if source.has_image else None
    return shown(request, service.create(owner_of(request), wanted, image=picture, remixed_from=source.id))
