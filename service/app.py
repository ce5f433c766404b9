"""The BentoML service: it takes a frame or cine and returns its nerve masks."""

import functools
import gc
import logging
import os
import time
from collections.abc import Callable
from typing import Annotated, Any

import bentoml
import numpy as np
from bentoml.validators import ContentType
from starlette.responses import JSONResponse, Response, StreamingResponse

from service.api import responses
from service.api.access_log import AccessLogMiddleware
from service.api.in_flight_limit import InFlightLimitMiddleware
from service.api.authentication import ApiKeyMiddleware
from service.api.request_queue import RequestQueueMiddleware
from service.api.deployed_model import DeployedModel
from service.api.dicom_response import dicom_response
from service.api.error_responses import ErrorMiddleware, frame_error_response
from service.api.frame_request import GEOJSON, FrameRequest
from service.api.routes import set_deployed_model, starlette_app
from service.api.server_patches import patch_supervisor, patch_worker
from service.api.startup_checks import check_startup
from service.api.upload import UploadMiddleware
from service.decoding.decoder_process import start_decoder_process
from service.errors import FrameError, ModelFolderError
from service.inference.results import FrameResult
from service.machine_resources import CPU_WORKERS, cpu_cores, gpu_name
from service.model.model_folder import model_folder
from service.monitoring.json_logs import configure_log_format
from service.monitoring.prometheus_metrics import STEP_DURATION_SECONDS
from service.monitoring.tracing import TRACING
from service.rendering import images

log = logging.getLogger("bentoml.nervemask")

PNG = ContentType("image/png")
DICOM = ContentType("application/dicom")
RESTART_PAUSE_SECONDS = 5  # before a worker without a model ends and the supervisor starts the next one


def respond_to_frame_errors(route: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a route: it responds to a FrameError."""

    @functools.wraps(route)
    def responding_route(self: Any, ctx: bentoml.Context) -> Any:
        try:
            return route(self, ctx)
        except FrameError as error:
            ctx.response.status_code = error.status  # BentoML overwrites the response's own status with this one
            return frame_error_response(error)

    return responding_route


@bentoml.service(
    name="nervemask",
    resources={"gpu": 1} if gpu_name() else {"cpu": str(cpu_cores())},
    workers=1 if gpu_name() else CPU_WORKERS,
    threads=cpu_cores(),
    metrics={"enabled": False},  # /metrics has the service's own
    logging={"access": {"enabled": False}},  # the audit log has a line for every response
    tracing=TRACING,
)
@bentoml.asgi_app(starlette_app)
class Nervemask:
    """Nerve masks of ultrasound frames."""

    def __init__(self) -> None:
        configure_log_format()
        patch_worker()
        self.deployed_model = load_deployed_model()
        start_decoder_process()
        set_deployed_model(self.deployed_model)
        self.deployed_model.watch()
        log_deployed_model(self.deployed_model)
        gc.freeze()  # all objects so far stay: collecting them would stop every thread for 50 ms

    @bentoml.on_deployment
    @staticmethod
    def check() -> None:
        """Run in the supervisor before it starts the workers."""
        configure_log_format()
        check_startup()
        patch_supervisor()

    @bentoml.api(route="/mask")
    @respond_to_frame_errors
    def mask(self, ctx: bentoml.Context) -> Annotated[bytes, PNG]:
        """Return the mask of a frame: an 8-bit PNG in the frame's size, 255 where the nerve is and 0 elsewhere."""
        return self._picture_response(ctx, lambda result: result.segmentation.mask)

    @bentoml.api(route="/overlay")
    @respond_to_frame_errors
    def overlay(self, ctx: bentoml.Context) -> Annotated[bytes, PNG]:
        """Return the frame with the mask's outline and tint: a colour PNG."""
        return self._picture_response(ctx, lambda result: images.draw_overlay(result.frame, result.segmentation.mask))

    @bentoml.api(route="/segment")
    @respond_to_frame_errors
    def segment(self, ctx: bentoml.Context) -> dict[str, Any]:
        """Return the mask, presence and confidence of a frame as JSON or GeoJSON; of a cine, a line for each frame."""
        request = FrameRequest(ctx.request, self.deployed_model.segmenter)
        picture_kind = request.picture_kind()
        as_geojson = request.accepts_geojson
        cine = request.open_cine()
        if request.asks_for_all_frames(cine):
            lines = (
                "".join(
                    responses.encode_line(responses.build_outcome(outcome, request.card, picture_kind, as_geojson))
                    for outcome in outcomes
                )
                for outcomes in request.segment_cine(cine)
            )
            return StreamingResponse(lines, media_type="application/jsonl")  # type: ignore[return-value]
        result = request.segment_frame(cine)
        with STEP_DURATION_SECONDS.labels("answer").time():
            if as_geojson:
                feature = responses.build_feature(result, request.card)
                return JSONResponse(feature, media_type=GEOJSON)  # type: ignore[return-value]
            return {**responses.build_segmentation(result, request.card, picture_kind)}

    @bentoml.api(route="/dicom")
    @respond_to_frame_errors
    def dicom(self, ctx: bentoml.Context) -> Annotated[bytes, DICOM]:
        """Return the DICOM Segmentation of a DICOM ultrasound, with one mask for each of its frames."""
        return dicom_response(FrameRequest(ctx.request, self.deployed_model.segmenter))  # type: ignore[return-value]

    def _picture_response(self, ctx: bentoml.Context, draw: Callable[[FrameResult], np.ndarray]) -> bytes:
        """Return the PNG of one frame.

        draw: returns uint8 (height, width) or (height, width, 3), BGR.
        """
        request = FrameRequest(ctx.request, self.deployed_model.segmenter)
        result = request.segment_frame(request.open_cine())
        headers = responses.picture_headers(result, request.card)
        with STEP_DURATION_SECONDS.labels("answer").time():
            data = images.encode_png(draw(result))
        # BentoML derives its schema from the annotation (bytes), and sends a Response as it is.
        return Response(data, media_type="image/png", headers=headers)  # type: ignore[return-value]


def load_deployed_model() -> DeployedModel:
    """Load the champion; a worker without one pauses and ends."""
    try:
        return DeployedModel(model_folder())
    except ModelFolderError as error:
        log.critical("%s", error)
        time.sleep(RESTART_PAUSE_SECONDS)  # the next worker starts at once, and probably fails too
        os._exit(1)


def log_deployed_model(deployed_model: DeployedModel) -> None:
    """Log the model, its device and its warnings."""
    card = deployed_model.segmenter.card
    log.info("%s %s (%s) on %s", card.name, card.version, card.candidate, deployed_model.segmenter.device)
    for warning in responses.collect_warnings(card):
        log.warning(warning)


MIDDLEWARES = (  # from the outermost to the innermost
    AccessLogMiddleware,
    ErrorMiddleware,
    ApiKeyMiddleware,
    InFlightLimitMiddleware,
    UploadMiddleware,
    RequestQueueMiddleware,
)
for middleware in MIDDLEWARES:
    Nervemask.add_asgi_middleware(middleware)  # type: ignore[attr-defined]
