"""The BentoML service: it takes a frame or cine and returns its nerve masks."""

import functools
import gc
import logging
from collections.abc import Callable
from typing import Annotated, Any

import bentoml
import cv2
import numpy as np
from bentoml._internal.context import server_context
from bentoml.validators import ContentType
from starlette.responses import JSONResponse, Response, StreamingResponse

from service.api import frame_responses
from service.api.access_log import AccessLogMiddleware
from service.api.allowed_hosts import AllowedHostsMiddleware
from service.api.authentication import ApiKeyMiddleware
from service.api.dicom_response import dicom_response
from service.api.error_responses import ErrorMiddleware, frame_error_response
from service.api.fair_concurrency_limiter import LIMITER
from service.api.frame_request import GEOJSON, FrameRequest
from service.api.in_flight_limit import InFlightLimitMiddleware
from service.api.model_reload import DeployedModel
from service.api.readiness import ReadinessMiddleware
from service.api.request_queue import RequestQueueMiddleware
from service.api.routes import set_deployed_model, starlette_app
from service.api.server_patches import configure_uvicorn, patch_supervisor, patch_worker
from service.api.startup_checks import check_startup
from service.api.upload import UploadMiddleware
from service.api.worker_health import HEALTH, Problem
from service.api.worker_supervision import end_with_supervisor, replace_silent_workers
from service.api.worker_table import WorkerTable
from service.decoding.decoder_process import start_decoder_process
from service.errors import FrameError
from service.inference.results import FrameFailure, FrameResult
from service.model.model_folder import model_folder
from service.monitoring.audit_log import audit_writer
from service.monitoring.certificate_expiry import report_certificate_expiry
from service.monitoring.json_logs import configure_logs
from service.monitoring.monitored_segmenter import MonitoredSegmenter
from service.monitoring.prometheus_metrics import STEP_DURATION_SECONDS
from service.monitoring.refusal_summary import REFUSALS
from service.monitoring.tracing import TRACING
from service.rendering import image_encoding
from service.rendering.overlay import OVERLAY_BYTES, draw_overlay
from service.request import RequestState
from service.resources.machine import cpu_cores, forbid_core_dumps, has_gpu, return_freed_memory, worker_count

log = logging.getLogger("bentoml.nervemask")

MAX_THREADS = 64  # frames that wait for memory hold a thread too; the concurrency limiter has fewer slots
PNG = ContentType("image/png")
DICOM = ContentType("application/dicom")


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
    resources={"gpu": 1} if has_gpu() else {"cpu": str(cpu_cores())},
    workers=worker_count(),
    threads=MAX_THREADS,
    metrics={"enabled": False},  # /metrics has the service's own
    logging={"access": {"enabled": False}},  # the audit log has a line for every response
    tracing=TRACING,
)
@bentoml.asgi_app(starlette_app)
class Nervemask:
    """Nerve masks of ultrasound frames."""

    def __init__(self) -> None:
        forbid_core_dumps()
        end_with_supervisor()
        configure_logs()
        return_freed_memory()
        cv2.setNumThreads(1)  # a large frame of one client would delay the frames of others; slots use the cores
        patch_worker()
        self.deployed_model = DeployedModel(model_folder())
        start_decoder_process()
        set_deployed_model(self.deployed_model)
        self.deployed_model.watch()
        if model := self.deployed_model.deployed:
            log_model(model)
        start_health_checks(self.deployed_model)
        report_certificate_expiry()
        gc.freeze()  # all objects so far stay: collecting them would stop every thread for 50 ms

    @bentoml.on_deployment
    @staticmethod
    def check() -> None:
        """Run in the supervisor before it starts the workers."""
        forbid_core_dumps()
        configure_logs()
        check_startup()
        patch_supervisor()
        replace_silent_workers()

    @bentoml.on_shutdown
    def finish_audit_log(self) -> None:
        """Write what is summed up and not written yet."""
        REFUSALS.write()

    @bentoml.api(route="/mask")
    @respond_to_frame_errors
    def mask(self, ctx: bentoml.Context) -> Annotated[bytes, PNG]:
        """Return the mask of a frame: an 8-bit PNG in the frame's size, 255 where the nerve is and 0 elsewhere."""
        return self._picture_response(ctx, lambda result: result.segmentation.mask)

    @bentoml.api(route="/overlay")
    @respond_to_frame_errors
    def overlay(self, ctx: bentoml.Context) -> Annotated[bytes, PNG]:
        """Return the frame with the mask's outline and tint: a colour PNG."""
        RequestState.of(ctx.request.scope).memory.rendered_bytes_per_pixel = OVERLAY_BYTES
        return self._picture_response(ctx, lambda result: draw_overlay(result.frame, result.segmentation.mask))

    @bentoml.api(route="/segment")
    @respond_to_frame_errors
    def segment(self, ctx: bentoml.Context) -> dict[str, Any]:
        """Return the mask, presence and confidence of a frame as JSON or GeoJSON; of a cine, a line for each frame."""
        request = FrameRequest(ctx.request, self.deployed_model.segmenter)
        picture_kind = request.picture_kind()
        as_geojson = request.accepts_geojson
        cine = request.open_cine()
        if request.asks_for_all_frames(cine):

            def render(outcome: FrameResult | FrameFailure) -> str:
                response = frame_responses.build_outcome(outcome, request.card, picture_kind, as_geojson)
                return frame_responses.encode_line(response)

            lines = (
                "".join(render(outcome) if isinstance(outcome, FrameFailure) else outcome for outcome in outcomes)
                for outcomes in request.segment_cine(cine, render)
            )
            return StreamingResponse(lines, media_type="application/jsonl")  # type: ignore[return-value]
        result = request.segment_frame(cine)
        with STEP_DURATION_SECONDS.labels("answer").time():
            if as_geojson:
                feature = frame_responses.build_feature(result, request.card)
                return JSONResponse(feature, media_type=GEOJSON)  # type: ignore[return-value]
            return {**frame_responses.build_segmentation(result, request.card, picture_kind)}

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
        headers = frame_responses.picture_headers(result, request.card)
        with STEP_DURATION_SECONDS.labels("answer").time():
            data = image_encoding.encode_png(draw(result))
        # BentoML derives its schema from the annotation (bytes), and sends a Response as it is.
        return Response(data, media_type="image/png", headers=headers)  # type: ignore[return-value]


def log_model(model: MonitoredSegmenter) -> None:
    """Log the model, its device and its warnings."""
    card = model.card
    log.info("%s %s (%s) on %s", card.name, card.version, card.candidate, model.device)
    for warning in frame_responses.collect_warnings(card):
        log.warning(warning)


def start_health_checks(deployed_model: DeployedModel) -> None:
    """Begin to look for problems that /readyz names, and to show the supervisor that this worker's event loop runs."""
    HEALTH.add_check("audit", find_audit_problem)
    HEALTH.add_check("model", lambda: deployed_model.problem)
    number = server_context.worker_index or 1
    HEALTH.start(number, lambda: deployed_model.description)
    LIMITER.greedy_clients.join(WorkerTable.open(), number)


def find_audit_problem() -> Problem | None:
    """Return why the audit log cannot be written; None if it can."""
    reason = audit_writer().find_problem()
    return ("audit", f"the audit log cannot be written: {reason}") if reason else None


MIDDLEWARES = (  # from the outermost to the innermost
    AccessLogMiddleware,
    ErrorMiddleware,
    AllowedHostsMiddleware,
    ReadinessMiddleware,
    ApiKeyMiddleware,
    InFlightLimitMiddleware,
    UploadMiddleware,
    RequestQueueMiddleware,
)
for middleware in MIDDLEWARES:
    Nervemask.add_asgi_middleware(middleware)  # type: ignore[attr-defined]
configure_uvicorn()
