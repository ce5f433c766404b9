"""The BentoML service: it takes a frame or cine and returns its nerve masks."""

import gc
import logging
import os

import bentoml
import cv2
from bentoml._internal.context import server_context

from service.api.access_log import AccessLogMiddleware
from service.api.allowed_hosts import AllowedHostsMiddleware
from service.api.authentication import ApiKeyMiddleware
from service.api.client_in_flight_limit import InFlightLimitMiddleware
from service.api.error_responses import ErrorMiddleware
from service.api.fair_concurrency_limiter import LIMITER
from service.api.model_reload import DeployedModel
from service.api.readiness import ReadinessMiddleware
from service.api.request_queue_timeout import RequestQueueMiddleware
from service.api.response_bodies import collect_warnings
from service.api.routes import set_deployed_model, starlette_app
from service.api.server_patches import configure_uvicorn, patch_supervisor, patch_worker
from service.api.startup_checks import check_startup
from service.api.upload import UploadMiddleware
from service.api.worker_health import HEALTH, Problem
from service.api.worker_supervision import end_with_supervisor, replace_silent_workers
from service.api.worker_table import WorkerTable
from service.decoding.decoder_process import start_decoder_process
from service.model.model_folder import model_folder
from service.monitoring.audit_log import audit_writer
from service.monitoring.certificate_expiry import report_certificate_expiry
from service.monitoring.json_logs import configure_logs
from service.monitoring.monitored_segmenter import MonitoredSegmenter
from service.monitoring.refusal_summary import REFUSALS
from service.monitoring.tracing import TRACING
from service.resources.container_limits import cpu_cores
from service.resources.gpu_detection import has_gpu
from service.resources.malloc_options import return_freed_memory
from service.resources.process_limits import forbid_core_dumps
from service.resources.worker_count import WORKERS_VARIABLE, worker_count

log = logging.getLogger("bentoml.nervemask")


@bentoml.service(
    name="nervemask",
    resources={"gpu": 1} if has_gpu() else {"cpu": str(cpu_cores())},
    workers=worker_count(),
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
        os.environ[WORKERS_VARIABLE] = str(worker_count())  # all workers share memory and tables by this number
        patch_supervisor()
        replace_silent_workers()

    @bentoml.on_shutdown
    def finish_audit_log(self) -> None:
        """Write what is summed up and not written yet."""
        REFUSALS.write()


def log_model(model: MonitoredSegmenter) -> None:
    """Log the model, its device and its warnings."""
    card = model.card
    log.info("%s %s (%s) on %s", card.name, card.version, card.candidate, model.device)
    for warning in collect_warnings(card):
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
