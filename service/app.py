"""The BentoML service: one frame in, its mask out."""

import logging
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import bentoml
from bentoml.validators import ContentType
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from service import answers
from service.card import Card, champion_folder
from service.errors import FrameError, ModelFolderError
from service.frame import Frame, decode
from service.guard import SECONDS, Guard, error_response
from service.runtime import cores, gpu_name
from service.segmenter import Segmentation, Segmenter
from service.upload import Upload

log = logging.getLogger("bentoml.nervemask")
PNG = ContentType("image/png")
PAGE = Path(__file__).parent / "page" / "index.html"
POLICY = "default-src 'none'; connect-src 'self'; img-src blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


async def _model(request: Request) -> JSONResponse:
    segmenter: Segmenter = request.app.state.segmenter
    return JSONResponse({**segmenter.card.to_dict(), "device": segmenter.runtime.device})


async def _page(request: Request) -> FileResponse:
    """In the place of BentoML's own page, which would load a tracker from outside."""
    return FileResponse(PAGE, headers={"content-security-policy": POLICY})


pages = Starlette(routes=[Route("/", _page), Route("/model", _model)])


@bentoml.service(
    name="nervemask",
    # One worker to a GPU: all workers would see the same one.
    resources={"gpu": 1} if gpu_name() else {"cpu": str(cores())},
    workers=1,
    threads=cores(),
    # The guard's own limit comes first, and answers in the one shape of an error. BentoML keeps something of every
    # request for as long as this.
    traffic={"timeout": 2 * SECONDS},
)
@bentoml.asgi_app(pages)
class Nervemask:
    """Nerve masks of ultrasound frames."""

    def __init__(self) -> None:
        self.segmenter = Segmenter(champion_folder())
        pages.state.segmenter = self.segmenter
        card = self.segmenter.card
        log.info("%s %s (%s) on %s", card.name, card.version, card.candidate, self.segmenter.runtime.device)
        for warning in answers.warnings(card):
            log.warning(warning)

    @bentoml.on_deployment
    @staticmethod
    def check() -> None:
        """Before any worker starts: BentoML would start one again and again on a folder that cannot be served."""
        try:
            Card.read(champion_folder())
        except ModelFolderError as fault:
            sys.exit(f"nervemask: {fault}")

    @bentoml.api(route="/mask")
    def mask(self, ctx: bentoml.Context) -> Annotated[bytes, PNG]:
        """The nerve's mask: an 8-bit PNG of the frame's own height and width, 255 where the nerve is.

        Upload the frame as the file in the field `frame` of multipart/form-data, or as the raw body with its type:
        image/png, image/jpeg, image/tiff or application/octet-stream.
        """
        try:
            _, found, _ = self._segment(ctx)
        except FrameError as fault:
            return _refusal(ctx, fault)
        headers = answers.headers(found, self.segmenter.card)
        # The annotation is what the documentation is made from; BentoML takes a whole response in its place.
        return Response(answers.png(found.mask), media_type="image/png", headers=headers)  # type: ignore[return-value]

    @bentoml.api(route="/segment")
    def segment(self, ctx: bentoml.Context) -> dict[str, Any]:
        """The nerve's mask as run-lengths and contours, with presence, confidence, model and times.

        Upload the frame as the file in the field `frame` of multipart/form-data, or as the raw body with its type:
        image/png, image/jpeg, image/tiff or application/octet-stream.
        """
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


Nervemask.add_asgi_middleware(Guard)  # type: ignore[attr-defined]
Nervemask.add_asgi_middleware(Upload)  # type: ignore[attr-defined]
