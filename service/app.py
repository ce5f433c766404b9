"""The BentoML service: one frame or cine in, its masks out."""

import functools
import gc
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Annotated, Any

import bentoml
import numpy as np
from bentoml.validators import ContentType
from starlette.responses import JSONResponse, Response, StreamingResponse

from service import answers, keys, pictures
from service.accounts import audit
from service.accounts.account import Counted
from service.accounts.logs import told_as_configured
from service.accounts.metrics import STEP_SECONDS
from service.accounts.spool import open_spool
from service.card import Card, champion_folder
from service.champion import Champion
from service.cine import chosen, open_cine
from service.connections import bound_connections, look_after_workers
from service.errors import FrameError, ModelFolderError
from service.guard import Gradual, without_bentomls_limit
from service.isolation import start_one
from service.keys import Locked
from service.machine import WORKERS, cores
from service.pages import pages, show
from service.refusals import Shaped, shape
from service.runtime import gpu_name
from service.segmenter import Seen, Unseen
from service.upload import Upload

log = logging.getLogger("bentoml.nervemask")
PNG = ContentType("image/png")
DICOM = ContentType("application/dicom")
GEOJSON = "application/geo+json"
TRACED = bool(os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"))
SETTINGS = {"NERVEMASK_METRICS": ("open", "key", "off"), "NERVEMASK_LOG": ("text", "json")}
PAUSE_SECONDS = 5  # of a worker that has nothing to serve


def refusing(route: Callable[..., Any]) -> Callable[..., Any]:
    """A route that answers a FrameError in the one shape of an error."""

    @functools.wraps(route)
    def answered(self: Any, ctx: bentoml.Context) -> Any:
        try:
            return route(self, ctx)
        except FrameError as fault:
            ctx.response.status_code = fault.status  # BentoML puts this in the place of the answer's own
            return shape(fault)

    return answered


@bentoml.service(
    name="nervemask",
    resources={"gpu": 1} if gpu_name() else {"cpu": str(cores())},
    workers=1 if gpu_name() else WORKERS,
    threads=cores(),
    metrics={"enabled": False},  # ours are at /metrics
    logging={"access": {"enabled": False}},  # the audit tells of every answer
    # Without an endpoint no exporter is loaded. With one, OpenTelemetry's own variables set the rest.
    # Where nobody takes them, spans would still be begun and ended.
    tracing={"exporter_type": "otlp", "sample_rate": 1.0, "otlp": {"protocol": "http"}}
    if TRACED
    else {"excluded_urls": ".*"},
)
@bentoml.asgi_app(pages)
class Nervemask:
    """Nerve masks of ultrasound frames."""

    def __init__(self) -> None:
        told_as_configured()
        bound_connections()
        without_bentomls_limit()
        try:
            self.champion = Champion(champion_folder())
        except ModelFolderError as fault:
            log.critical("%s", fault)
            time.sleep(PAUSE_SECONDS)  # this worker is replaced at once, and the next one will find the same
            os._exit(1)
        start_one()
        show(self.champion)
        self.champion.watch()
        account = self.champion.account
        card = account.card
        log.info("%s %s (%s) on %s", card.name, card.version, card.candidate, account.segmenter.runtime.device)
        for warning in answers.warnings(card):
            log.warning(warning)
        gc.freeze()  # what is there now stays: to look through it for garbage would stop every thread for 50 ms

    @bentoml.on_deployment
    @staticmethod
    def check() -> None:
        """Before any worker starts: BentoML would start one again and again on what cannot be served."""
        told_as_configured()
        for name, known in SETTINGS.items():
            if os.environ.get(name) not in (None, "", *known):
                sys.exit(f"nervemask: {name} is {os.environ[name]!r}; it can be {', '.join(known)}.")
        os.environ.pop("BENTOML_CONTAINERIZED", None)  # inside a container, BentoML would not replace a killed worker
        try:
            Card.read(champion_folder())
            keys.check()
            audit.check()
            open_spool()
        except (ModelFolderError, keys.KeysError) as fault:
            sys.exit(f"nervemask: {fault}")
        except (OSError, ValueError) as fault:
            sys.exit(f"nervemask: NERVEMASK_AUDIT or NERVEMASK_SPOOL cannot be used: {fault}")
        look_after_workers()

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
        query, account = ctx.request.query_params, self.champion.account
        picture = query.get("picture")
        if picture not in (None, *answers.PICTURES):
            known = ", ".join(answers.PICTURES)
            raise FrameError("picture", f"picture is one of {known}, not {picture[:20]!r}.", 400)
        geographic = GEOJSON in ctx.request.headers.get("accept", "")
        if geographic and picture:
            raise FrameError("picture", "GeoJSON holds no picture: leave out the parameter, or ask for JSON.", 400)
        cine = open_cine(ctx.request.state.upload)
        if cine.count > 1 and "index" not in query:
            parts = (
                "".join(answers.line(answers.outcome(of, account.card, picture, geographic)) for of in outcomes)
                for outcomes in account.see_all(cine, ctx.request.scope)
            )
            return StreamingResponse(parts, media_type="application/jsonl")  # type: ignore[return-value]
        seen = account.see(cine, chosen(cine, query.get("index")), ctx.request.scope)
        with STEP_SECONDS.labels("answer").time():
            if geographic:
                return JSONResponse(answers.geojson(seen, account.card), media_type=GEOJSON)  # type: ignore[return-value]
            return answers.segment(seen, account.card, picture)

    @bentoml.api(route="/dicom")
    @refusing
    def dicom(self, ctx: bentoml.Context) -> Annotated[bytes, DICOM]:
        """Of a DICOM ultrasound, single or multi-frame: a DICOM Segmentation that refers to it, frame for frame."""
        from service.dicom.cine import DicomCine
        from service.dicom.segmentation_object import segmentation_object

        cine = open_cine(ctx.request.state.upload)
        if not isinstance(cine, DicomCine):
            raise FrameError("not_dicom", "A DICOM segmentation refers to a DICOM file: send one.", 422)
        account = self.champion.account
        headers = answers.model_headers(account.card, cine.notes)

        def made(step: Callable[[], None]) -> Response:
            masks = _masks(chain.from_iterable(account.see_all(cine, ctx.request.scope)), step)
            try:
                data = segmentation_object(cine.header, masks, account.card)
            except FrameError as fault:
                return shape(fault)
            return Response(data, media_type="application/dicom", headers=headers)

        return Gradual(made)  # type: ignore[return-value]

    def _picture(self, ctx: bentoml.Context, drawn: Callable[[Seen], np.ndarray]) -> bytes:
        """The PNG of one frame. drawn: uint8 (height, width) or (height, width, 3) of what was seen."""
        cine, account = open_cine(ctx.request.state.upload), self.champion.account
        seen = account.see(cine, chosen(cine, ctx.request.query_params.get("index")), ctx.request.scope)
        headers = answers.headers(seen, account.card)
        with STEP_SECONDS.labels("answer").time():
            data = pictures.png(drawn(seen))
        # The annotation is what the documentation is made from; BentoML takes a whole response in its place.
        return Response(data, media_type="image/png", headers=headers)  # type: ignore[return-value]


def _masks(outcomes: Iterable[Seen | Unseen], step: Callable[[], None]) -> Iterator[np.ndarray]:
    """Those of all frames, a step each: a segmentation of some only would look like one of all."""
    for outcome in outcomes:
        if isinstance(outcome, Unseen):
            raise outcome.fault
        step()
        yield outcome.found.mask


for layer in (Counted, Shaped, Locked, Upload):  # from the outside in
    Nervemask.add_asgi_middleware(layer)  # type: ignore[attr-defined]
