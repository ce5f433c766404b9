"""All routes: those that take a frame, the stream, the page, the model's card, documentation and metrics."""

import os
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles

from service.api.dicom_response import dicom_response
from service.api.error_responses import frame_error_response
from service.api.frame_endpoints import endpoint, mask, overlay, segment
from service.api.model_reload import DeployedModel
from service.api.openapi import openapi_document
from service.api.response_bodies import collect_warnings
from service.api.websocket import OpenStreams, serve_stream
from service.errors import FrameError
from service.model.card import WORST_FRAMES_IMAGE
from service.monitoring.monitored_segmenter import MonitoredSegmenter
from service.monitoring.prometheus_metrics import render_metrics

PAGE_FOLDER = Path(__file__).parent / "page"
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; connect-src 'self'; img-src 'self' blob: data:; style-src 'self'; script-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


async def get_page(request: Request) -> FileResponse:
    """Return the page. It replaces BentoML's own page, which loads a tracker from another site."""
    return FileResponse(PAGE_FOLDER / "index.html", headers={"content-security-policy": CONTENT_SECURITY_POLICY})


async def get_model(request: Request) -> JSONResponse:
    """Return the model's card, its device and its warnings."""
    segmenter = _deployed_segmenter(request)
    card = segmenter.card
    return JSONResponse({**card.to_dict(), "device": segmenter.device, "warnings": collect_warnings(card)})


async def get_worst_frames(request: Request) -> FileResponse:
    """Return the picture of the worst test frames; 404 where the data's licence does not allow it."""
    segmenter = _deployed_segmenter(request)
    if WORST_FRAMES_IMAGE not in segmenter.card.files:
        raise HTTPException(404)
    return FileResponse(segmenter.folder / WORST_FRAMES_IMAGE)


async def get_openapi(request: Request) -> JSONResponse:
    """Return the OpenAPI document. It replaces BentoML's own, which does not describe uploads."""
    # In a thread: the GeoJSON example loads Shapely, which would block the event loop for 0.2 seconds.
    return JSONResponse(await run_in_threadpool(openapi_document, _deployed_segmenter(request).card))


async def get_metrics(request: Request) -> Response:
    """Return Prometheus metrics; 404 with NERVEMASK_METRICS=off."""
    if os.environ.get("NERVEMASK_METRICS") == "off":
        raise HTTPException(404)
    return Response(await run_in_threadpool(render_metrics), media_type=CONTENT_TYPE_LATEST)


def _deployed_segmenter(request: Request) -> MonitoredSegmenter:
    return request.app.state.deployed_model.segmenter


def respond_to_frame_error(request: Request, error: Exception) -> Response:
    """Return the response of a FrameError that a route raises."""
    assert isinstance(error, FrameError)
    return frame_error_response(error)


starlette_app = Starlette(
    routes=[
        Route("/", get_page),
        Route("/model", get_model),
        Route(f"/model/{WORST_FRAMES_IMAGE}", get_worst_frames),
        Route("/docs.json", get_openapi),
        Route("/metrics", get_metrics),
        WebSocketRoute("/stream", serve_stream),
        Route("/mask", endpoint(mask), methods=["POST"]),
        Route("/overlay", endpoint(overlay), methods=["POST"]),
        Route("/segment", endpoint(segment), methods=["POST"]),
        Route("/dicom", endpoint(dicom_response), methods=["POST"]),
        Mount("/page", StaticFiles(directory=PAGE_FOLDER)),
    ],
    exception_handlers={FrameError: respond_to_frame_error},
)


def set_deployed_model(deployed_model: DeployedModel) -> None:
    """Let the routes use this deployed model."""
    starlette_app.state.deployed_model = deployed_model
    starlette_app.state.streams = OpenStreams()
