"""/readyz: 200 with the served model and warnings while every worker can return masks; else 503 with the reason."""

from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.error_responses import error_response
from service.api.worker_health import HEALTH, WorkerHealth, causes_of_unreadiness
from service.errors import ErrorCode

READINESS_ROUTE = "/readyz"


class ReadinessMiddleware:
    """ASGI middleware: responds to /readyz in place of BentoML, which says "ready" as soon as a worker has started."""

    def __init__(self, app: ASGIApp, health: WorkerHealth = HEALTH):
        self.app = app
        self.health = health

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_probe = scope["type"] == "http" and scope["path"] == READINESS_ROUTE and scope["method"] in ("GET", "HEAD")
        await (self._response() if is_probe else self.app)(scope, receive, send)

    def _response(self) -> Response:
        problems = self.health.all_problems()
        if causes := causes_of_unreadiness(problems):
            return error_response(503, ErrorCode.NOT_READY, f"The service is not ready: {'; '.join(causes)}.")
        lines = [f"ready: {self.health.model()}", *(f"warning: {text}" for text in problems.values())]
        return PlainTextResponse("".join(f"{line}\n" for line in lines))
