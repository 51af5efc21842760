"""The application: routes, the door in front of them, and the service behind them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import JSONResponse, Response

from hunyuan_video import __version__
from hunyuan_video.serving import pages, routes, streams
from hunyuan_video.serving.config import ServerConfig
from hunyuan_video.serving.guard import Guard
from hunyuan_video.serving.problems import Problem, add_handlers
from hunyuan_video.serving.service import JobService


def make_app(config: ServerConfig) -> FastAPI:
    """The ASGI application of a server; its service starts and stops with it."""
    service = JobService(config)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await service.stop()
        service.store.close()

    app = FastAPI(
        title="hunyuan-video", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None
    )  # the pages of FastAPI load scripts of another site
    app.state.service = service
    app.add_middleware(Guard, config=config, metrics=service.metrics)
    add_handlers(app)

    @app.get("/health")
    async def health() -> Response:
        """200 with {"status": "ok"} when jobs can run."""
        status = "draining" if service.draining else "ok" if service.pool.ready else "starting"
        return JSONResponse({"status": status}, 200 if status == "ok" else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        """Figures in Prometheus' text format."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/v1/models")
    async def models() -> Response:
        """The model that is served, its defaults and the LoRAs there are."""
        return JSONResponse({"object": "list", "data": [service.model_view()]})

    @app.get("/v1/models/{model_id}")
    async def model(request: Request, model_id: str) -> Response:
        """The model, by its id."""
        if model_id != config.model_id:
            raise Problem(404, f"no model {model_id[:80]!r}; there is {config.model_id!r}", code="model_not_found")
        return JSONResponse(service.model_view())

    app.include_router(pages.router)
    app.include_router(routes.router)
    app.include_router(streams.router)
    return app
