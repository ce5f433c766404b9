"""A BentoML service as in BentoML's examples: a Pillow image in, a Pillow image out.

It runs the champion in float32 with ONNX Runtime.
"""

from typing import Annotated

import bentoml
import numpy as np
from bentoml.validators import ContentType
from PIL import Image

from service.decoding.frame import Frame
from service.inference.onnx_runtime import CPU, OnnxRuntime
from service.inference.postprocessing import postprocess
from service.inference.segmenter import predict_probabilities
from service.inference.tta import with_tta
from service.model.card import NETWORK_FILE, Card
from service.model.model_folder import model_folder


@bentoml.service
class PlainService:
    """Nerve masks of pictures."""

    def __init__(self) -> None:
        self.card = Card.read(model_folder())
        runtime = OnnxRuntime(model_folder() / NETWORK_FILE, "float32", [CPU])
        self.runtime = with_tta(runtime, self.card.tta)

    @bentoml.api
    def mask(self, image: Image.Image) -> Annotated[Image.Image, ContentType("image/png")]:
        frame = Frame(np.asarray(image.convert("L")))
        mask = postprocess(*predict_probabilities(self.runtime, self.card.input, frame), self.card.postprocessing)
        return Image.fromarray(mask)
