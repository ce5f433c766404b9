"""What is asked for with GET: the page to try it, the model's card, the documentation; and the stream beside them."""

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

from service.accounts.metrics import exposition
from service.answers import warnings
from service.card import WORST
from service.champion import Champion
from service.documentation import documentation
from service.segmenter import Segmenter
from service.stream import Room, stream

PAGE = Path(__file__).parent / "page"
POLICY = (
    "default-src 'none'; connect-src 'self'; img-src 'self' blob: data:; style-src 'self'; script-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


async def _model(request: Request) -> JSONResponse:
    segmenter: Segmenter = request.app.state.champion.account.segmenter
    card = segmenter.card
    return JSONResponse({**card.to_dict(), "device": segmenter.runtime.device, "warnings": warnings(card)})


async def _worst(request: Request) -> FileResponse:
    segmenter: Segmenter = request.app.state.champion.account.segmenter
    if WORST not in segmenter.card.files:
        raise HTTPException(404)
    return FileResponse(segmenter.folder / WORST)


async def _page(request: Request) -> FileResponse:
    """In the place of BentoML's own page, which would load a tracker from outside."""
    return FileResponse(PAGE / "index.html", headers={"content-security-policy": POLICY})


async def _documentation(request: Request) -> JSONResponse:
    """In the place of BentoML's own, which knows nothing of what is uploaded."""
    # In a thread: its GeoJSON loads Shapely, which would keep others waiting for two tenths of a second.
    return JSONResponse(await run_in_threadpool(documentation, request.app.state.champion.account.card))


async def _metrics(request: Request) -> Response:
    if os.environ.get("NERVEMASK_METRICS") == "off":
        raise HTTPException(404)
    return Response(await run_in_threadpool(exposition), media_type=CONTENT_TYPE_LATEST)


pages = Starlette(
    routes=[
        Route("/", _page),
        Route("/model", _model),
        Route(f"/model/{WORST}", _worst),
        Route("/docs.json", _documentation),
        Route("/metrics", _metrics),
        WebSocketRoute("/stream", stream),
        Mount("/page", StaticFiles(directory=PAGE)),
    ]
)


def show(champion: Champion) -> None:
    """From now on the pages answer for this model."""
    pages.state.champion = champion
    pages.state.streams, pages.state.room = set(), Room()
