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
from service.card import Card, champion_folder
from service.decision import decide
from service.tensor import to_frame, to_tensor

card = Card.read(champion_folder())
model = keras.models.load_model(champion_folder() / "unet.keras", compile=False)
model.predict(np.zeros((1, card.input.height, card.input.width, 1), np.float32), verbose=0)


def mask(file: bytes) -> bytes:
    frame = frame_of(file)
    answer = model.predict(to_tensor(frame, card.input)[np.newaxis], verbose=0)
    probability = to_frame(answer["mask"][0, ..., 0], frame)
    return cv2.imencode(".png", decide(probability, float(answer["presence"][0, 0]), card.decision))[1].tobytes()


async def asked(request: Request) -> Response:
    return Response(await run_in_threadpool(mask, await request.body()), media_type="image/png")


async def ready(request: Request) -> Response:
    return Response()


app = Starlette(routes=[Route("/mask", asked, methods=["POST"]), Route("/readyz", ready)])
