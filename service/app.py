"""The BentoML service: one frame in, its mask out."""

import logging
import os
import time
from pathlib import Path
from typing import Annotated, Any

import bentoml
from bentoml.validators import ContentType
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service import answers
from service.errors import FrameError
from service.frame import Frame, decode
from service.guard import Guard, error_response
from service.runtime import cores, has_gpu
from service.segmenter import Segmentation, Segmenter
from service.upload import Upload

log = logging.getLogger("nervemask")
PNG = ContentType("image/png")


def model_folder() -> Path:
    """NERVEMASK_MODEL, or models/champion beside the package: at the project's root, and inside the Bento."""
    return Path(os.environ.get("NERVEMASK_MODEL") or Path(__file__).parent.parent / "models" / "champion")


async def _model(request: Request) -> JSONResponse:
    segmenter: Segmenter = request.app.state.segmenter
    return JSONResponse({**segmenter.card.to_dict(), "device": segmenter.runtime.device})


cards = Starlette(routes=[Route("/model", _model)])


@bentoml.service(
    name="nervemask",
    # One worker to a GPU: all workers would see the same one.
    resources={"gpu": 1} if has_gpu() else {"cpu": str(cores())},
    workers=1,
    threads=cores(),
    # The guard's own limit comes first, and answers in the one shape of an error.
    traffic={"timeout": 3600},
)
@bentoml.asgi_app(cards)
class Nervemask:
    """Nerve masks of ultrasound frames."""

    def __init__(self) -> None:
        self.segmenter = Segmenter(model_folder())
        self.segmenter.warm()
        cards.state.segmenter = self.segmenter
        card = self.segmenter.card
        log.warning("%s %s (%s) on %s", card.name, card.version, card.candidate, self.segmenter.runtime.device)

    @bentoml.api(route="/mask")
    def mask(self, ctx: bentoml.Context) -> Annotated[bytes, PNG]:
        """The nerve's mask: an 8-bit PNG of the frame's own height and width, 255 where the nerve is."""
        try:
            _, found, _ = self._segment(ctx)
        except FrameError as fault:
            return _refusal(ctx, fault)
        return Response(
            answers.png(found.mask), media_type="image/png", headers=answers.headers(found, self.segmenter.card)
        )

    @bentoml.api(route="/segment")
    def segment(self, ctx: bentoml.Context) -> dict[str, Any]:
        """The nerve's mask as run-lengths and contours, with presence, confidence, model and times."""
        try:
            frame, found, milliseconds = self._segment(ctx)
        except FrameError as fault:
            return _refusal(ctx, fault)
        start = time.perf_counter()
        answer = answers.segment(frame, found, self.segmenter.card, milliseconds)
        answer["milliseconds"]["answer"] = round((time.perf_counter() - start) * 1000, 2)
        return answer

    def _segment(self, ctx: bentoml.Context) -> tuple[Frame, Segmentation, dict[str, float]]:
        start = time.perf_counter()
        frame = decode(ctx.request.state.upload)
        decoded = (time.perf_counter() - start) * 1000
        found = self.segmenter.segment(frame)
        return frame, found, {"decode": decoded, "network": found.milliseconds}


def _refusal(ctx: bentoml.Context, fault: FrameError) -> Any:
    ctx.response.status_code = fault.status  # BentoML puts this in the place of the answer's own
    return error_response(fault.status, fault.code, fault.message)


Nervemask.add_asgi_middleware(Guard)
Nervemask.add_asgi_middleware(Upload)
