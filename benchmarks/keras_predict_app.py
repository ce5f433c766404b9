"""The lecture's way to serve: `model.predict` behind a minimal ASGI app. It decodes frames as the service does."""

import cv2
import keras
import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.compared_servers import decode_upload
from service.inference.postprocessing import postprocess
from service.inference.segmenter import predict_probabilities
from service.inference.tta import with_tta
from service.model.card import Card, Precision
from service.model.model_folder import model_folder

card = Card.read(model_folder())
model = keras.models.load_model(model_folder() / "unet.keras", compile=False)


class KerasPredictRuntime:
    """`model.predict` as a `service.inference.runtime_interface.Runtime`."""

    device = "Keras"
    precision: Precision = "float32"

    def __call__(self, batch: np.ndarray, all_cores: bool = True) -> tuple[np.ndarray, np.ndarray]:
        prediction = model.predict(batch, verbose=0)
        return prediction["mask"], prediction["presence"].reshape(-1)


runtime = with_tta(KerasPredictRuntime(), card.tta)  # the same TTA as the service
runtime(np.zeros((1, card.input.height, card.input.width, 1), np.float32))  # warm-up


def segment_to_png(file: bytes) -> bytes:
    mask = postprocess(*predict_probabilities(runtime, card.input, decode_upload(file)), card.postprocessing)
    return cv2.imencode(".png", mask)[1].tobytes()


async def mask(request: Request) -> Response:
    png = await run_in_threadpool(segment_to_png, await request.body())
    return Response(png, media_type="image/png")


async def ready(request: Request) -> Response:
    return Response()


app = Starlette(routes=[Route("/mask", mask, methods=["POST"]), Route("/readyz", ready)])
