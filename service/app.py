"""The BentoML service: one frame or cine in, its masks out."""

import functools
import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any

import bentoml
import numpy as np
from bentoml.validators import ContentType
from starlette.responses import JSONResponse, Response, StreamingResponse

from service import answers, pictures
from service.card import Card, champion_folder
from service.cine import chosen, open_cine
from service.errors import FrameError, ModelFolderError
from service.guard import SECONDS, Gradual, Guard, error_response
from service.pages import pages, show
from service.runtime import cores, gpu_name
from service.segmenter import Seen, Segmenter, Unseen
from service.upload import Upload

log = logging.getLogger("bentoml.nervemask")
PNG = ContentType("image/png")
DICOM = ContentType("application/dicom")
GEOJSON = "application/geo+json"


def refusing(route: Callable[..., Any]) -> Callable[..., Any]:
    """A route that answers a FrameError in the one shape of an error."""

    @functools.wraps(route)
    def answered(self: Any, ctx: bentoml.Context) -> Any:
        try:
            return route(self, ctx)
        except FrameError as fault:
            ctx.response.status_code = fault.status  # BentoML puts this in the place of the answer's own
            return error_response(fault.status, fault.code, fault.message)

    return answered


@bentoml.service(
    name="nervemask",
    # One worker to a GPU: all workers would see the same one.
    resources={"gpu": 1} if gpu_name() else {"cpu": str(cores())},
    workers=1,
    threads=cores(),
    # The guard's own limit comes first, and answers in the one shape of an error. BentoML's is on the time until an
    # answer begins, which no step puts off: long enough for the Segmentation of the longest cine. It keeps something
    # of every request for as long as this.
    traffic={"timeout": 10 * SECONDS},
)
@bentoml.asgi_app(pages)
class Nervemask:
    """Nerve masks of ultrasound frames."""

    def __init__(self) -> None:
        self.segmenter = Segmenter(champion_folder())
        show(self.segmenter)
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
    @refusing
    def mask(self, ctx: bentoml.Context) -> Annotated[bytes, PNG]:
        """The nerve's mask: an 8-bit PNG of the frame's own height and width, 255 where the nerve is."""
        return self._picture(ctx, lambda seen: seen.found.mask)

    @bentoml.api(route="/overlay")
    @refusing
    def overlay(self, ctx: bentoml.Context) -> Annotated[bytes, PNG]:
        """The frame with the mask's outline and tint upon it: a PNG in colour."""
        return self._picture(ctx, lambda seen: pictures.overlay(seen.frame, seen.found.mask))

    @bentoml.api(route="/segment")
    @refusing
    def segment(self, ctx: bentoml.Context) -> dict[str, Any]:
        """The mask as run-lengths and contours, with presence, confidence, model and times; a cine as lines of JSON."""
        query, card = ctx.request.query_params, self.segmenter.card
        picture = query.get("picture")
        if picture not in (None, *answers.PICTURES):
            known = ", ".join(answers.PICTURES)
            raise FrameError("picture", f"picture is one of {known}, not {picture[:20]!r}.", 400)
        geographic = GEOJSON in ctx.request.headers.get("accept", "")
        cine = open_cine(ctx.request.state.upload)
        if cine.count > 1 and "index" not in query:
            told = (answers.outcome(of, card, picture, geographic) for of in self.segmenter.see_all(cine))
            return StreamingResponse(map(_line, told), media_type="application/jsonl")  # type: ignore[return-value]
        seen = self.segmenter.see(cine, chosen(cine, query.get("index")))
        if geographic:
            return JSONResponse(answers.geojson(seen, card), media_type=GEOJSON)  # type: ignore[return-value]
        return answers.segment(seen, card, picture)

    @bentoml.api(route="/dicom")
    @refusing
    def dicom(self, ctx: bentoml.Context) -> Annotated[bytes, DICOM]:
        """Of a DICOM ultrasound, single or multi-frame: a DICOM Segmentation that refers to it, frame for frame."""
        from service.dicom import DicomCine
        from service.segmentation_object import segmentation_object

        cine = open_cine(ctx.request.state.upload)
        if not isinstance(cine, DicomCine):
            raise FrameError("not_dicom", "A DICOM segmentation refers to a DICOM file: send one.", 422)
        card, headers = self.segmenter.card, answers.model_headers(self.segmenter.card, cine.notes)

        def made(step: Callable[[], None]) -> Response:
            try:
                data = segmentation_object(cine.header, _masks(self.segmenter.see_all(cine), step), card)
            except FrameError as fault:
                return error_response(fault.status, fault.code, fault.message)
            return Response(data, media_type="application/dicom", headers=headers)

        return Gradual(made)  # type: ignore[return-value]

    def _picture(self, ctx: bentoml.Context, drawn: Callable[[Seen], np.ndarray]) -> bytes:
        """The PNG of one frame. drawn: uint8 (height, width) or (height, width, 3) of what was seen."""
        cine = open_cine(ctx.request.state.upload)
        seen = self.segmenter.see(cine, chosen(cine, ctx.request.query_params.get("index")))
        headers = answers.headers(seen, self.segmenter.card)
        # The annotation is what the documentation is made from; BentoML takes a whole response in its place.
        return Response(pictures.png(drawn(seen)), media_type="image/png", headers=headers)  # type: ignore[return-value]


def _masks(outcomes: Iterable[Seen | Unseen], step: Callable[[], None]) -> Iterator[np.ndarray]:
    """Those of all frames, a step each: a segmentation of some only would look like one of all."""
    for outcome in outcomes:
        if isinstance(outcome, Unseen):
            raise outcome.fault
        step()
        yield outcome.found.mask


def _line(told: dict[str, Any]) -> str:
    return json.dumps(told, separators=(",", ":")) + "\n"


Nervemask.add_asgi_middleware(Guard)  # type: ignore[attr-defined]
Nervemask.add_asgi_middleware(Upload)  # type: ignore[attr-defined]
