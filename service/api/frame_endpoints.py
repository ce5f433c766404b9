"""The endpoints of /mask, /overlay and /segment: they return masks as PNG, JSON or GeoJSON.

`dicom_response` has that of /dicom. Starlette calls them in a thread. A `bentoml.api` would take longer.
"""

import logging
from collections.abc import Awaitable, Callable

import numpy as np
from anyio import CapacityLimiter, to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from service.api import response_bodies
from service.api.error_responses import INTERNAL_ERROR_MESSAGE, error_response
from service.api.frame_request import GEOJSON, FrameRequest
from service.errors import ErrorCode, FrameError
from service.inference.segmentation_result import FrameFailure, FrameResult
from service.monitoring.prometheus_metrics import STEP_DURATION_SECONDS
from service.rendering import image_encoding
from service.rendering.overlay import OVERLAY_BYTES
from service.resources.container_limits import cpu_cores

THREADS = CapacityLimiter(max(64, 2 * cpu_cores()))  # more than slots; a timed-out request keeps its thread for a time
log = logging.getLogger("bentoml.nervemask")


def mask(request: FrameRequest) -> Response:
    """Return the mask of a frame: an 8-bit PNG in the frame's size, 255 where the nerve is and 0 elsewhere."""
    return _picture_response(request, lambda result: result.segmentation.mask)


def overlay(request: FrameRequest) -> Response:
    """Return the frame with the mask's outline and tint, and its outlines if the client asks: a colour PNG."""
    request.state.memory.rendered_bytes_per_pixel = OVERLAY_BYTES
    return _picture_response(request, response_bodies.draw_result)


def segment(request: FrameRequest) -> Response:
    """Return the mask, presence and confidence of a frame as JSON or GeoJSON; of a cine, a line for each frame."""
    picture_kind = request.picture_kind()
    request.read_settings()
    as_geojson = request.accepts_geojson
    if as_geojson and request.state.settings.outlines:
        message = "GeoJSON cannot contain outlines: remove the parameter outlines, or accept application/json."
        raise FrameError(ErrorCode.OUTLINES, message)
    cine = request.open_cine()
    if request.asks_for_all_frames(cine):

        def render(outcome: FrameResult | FrameFailure) -> str:
            response = response_bodies.build_outcome(outcome, request.card, picture_kind, as_geojson)
            return response_bodies.encode_line(response)

        lines = (
            "".join(render(outcome) if isinstance(outcome, FrameFailure) else outcome for outcome in outcomes)
            for outcomes in request.segment_cine(cine, render)
        )
        return StreamingResponse(lines, media_type="application/jsonl")

    def render_frame(result: FrameResult) -> Response:
        with STEP_DURATION_SECONDS.labels("answer").time():
            if as_geojson:
                return JSONResponse(response_bodies.build_feature(result, request.card), media_type=GEOJSON)
            return JSONResponse({**response_bodies.build_segmentation(result, request.card, picture_kind)})

    return request.segment_frame(cine, render_frame)


def _picture_response(request: FrameRequest, draw: Callable[[FrameResult], np.ndarray]) -> Response:
    """Return the PNG of one frame.

    draw: returns uint8 (height, width) or (height, width, 3), BGR.
    """

    def render(result: FrameResult) -> Response:
        with STEP_DURATION_SECONDS.labels("answer").time():
            data = image_encoding.encode_png(draw(result))
        return Response(data, media_type="image/png", headers=response_bodies.picture_headers(result, request.card))

    request.read_settings()
    return request.segment_frame(request.open_cine(), render)


def endpoint(respond: Callable[[FrameRequest], Response]) -> Callable[[Request], Awaitable[Response]]:
    """Return the Starlette endpoint of a function that responds to a FrameRequest; it runs in a thread."""

    async def run_in_thread(request: Request) -> Response:
        frame_request = FrameRequest(request, request.app.state.deployed_model.segmenter)
        try:
            return await to_thread.run_sync(respond, frame_request, limiter=THREADS)
        except FrameError:
            raise
        except Exception:  # raised further, it would end the connection
            log.exception("%s failed", request.url.path)
            return error_response(500, ErrorCode.INTERNAL, INTERNAL_ERROR_MESSAGE)

    return run_in_thread
