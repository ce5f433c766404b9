"""The lecture's way to serve: `model.predict` behind a minimal ASGI app. Frames are read as the service reads them."""

import cv2
import keras
import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.contenders import frame_of
from service.card import Card, Precision, champion_folder
from service.decision import decide
from service.runtime import as_asked
from service.segmenter import probabilities

card = Card.read(champion_folder())
model = keras.models.load_model(champion_folder() / "unet.keras", compile=False)


class Predicted:
    """`model.predict` as a runtime."""

    device = "Keras"
    precision: Precision = "float32"

    def __call__(self, batch: np.ndarray, alone: bool = True) -> tuple[np.ndarray, np.ndarray]:
        answer = model.predict(batch, verbose=0)
        return answer["mask"], answer["presence"].reshape(-1)


runtime = as_asked(Predicted(), card.mirrored)  # as often as the service asks
runtime(np.zeros((1, card.input.height, card.input.width, 1), np.float32))


def mask(file: bytes) -> bytes:
    decided = decide(*probabilities(runtime, card.input, frame_of(file)), card.decision)
    return cv2.imencode(".png", decided)[1].tobytes()


async def asked(request: Request) -> Response:
    return Response(await run_in_threadpool(mask, await request.body()), media_type="image/png")


async def ready(request: Request) -> Response:
    return Response()


app = Starlette(routes=[Route("/mask", asked, methods=["POST"]), Route("/readyz", ready)])
