"""What the clients use of the service's JSON, as pydantic models.

Other fields are ignored: a newer service may add some.
"""

import base64
import binascii
import struct
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

PNG_URL_PREFIX = "data:image/png;base64,"
PNG_HEAD = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"  # the signature, and the head of the first chunk
MAX_WARNINGS = 100

Count = Annotated[int, Field(ge=0, lt=2**31)]
Warnings = Annotated[list[str], Field(max_length=MAX_WARNINGS)]


class _Form(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


class ModelDescription(_Form):
    """The response of /model. run_id: MLflow run of the model."""

    run_id: str
    warnings: Warnings = []


class ErrorDetail(_Form):
    """The reason of an error: a code for programs and a message for people."""

    code: str = ""
    message: str


class ErrorResponse(_Form):
    """The body of an error."""

    error: ErrorDetail


class FrameNumber(_Form):
    """The number of a frame in its cine, from 0."""

    index: Count


class FailedFrame(ErrorResponse):
    """A frame of a cine that has no mask."""

    frame: FrameNumber

    @property
    def index(self) -> int:
        """Return the frame's number."""
        return self.frame.index


class Confidence(_Form):
    """The Dice that the mask is likely to reach; None for an empty mask."""

    mask: float | None


class NerveMeasures(_Form):
    """Whether the frame shows a nerve, and the nerve's size."""

    present: bool | None
    presence: float
    area_px: Count
    area_mm2: float | None


class FrameProperties(FrameNumber):
    """The frame's number and its size in pixels."""

    height: Count
    width: Count


class Segmentation(_Form):
    """The response of /segment for one frame."""

    frame: FrameProperties
    nerve: NerveMeasures
    confidence: Confidence
    milliseconds: dict[str, float]
    warnings: Warnings
    picture: str | None = None

    @property
    def index(self) -> int:
        """Return the frame's number."""
        return self.frame.index

    def read_png(self) -> bytes:
        """Return the picture's PNG file. Raises ValueError if it is none, or if its size is not the frame's."""
        prefix, text = (self.picture or "")[: len(PNG_URL_PREFIX)], (self.picture or "")[len(PNG_URL_PREFIX) :]
        if prefix != PNG_URL_PREFIX:
            raise ValueError("the response holds no PNG picture")
        try:
            png = base64.b64decode(text, validate=True)
        except binascii.Error as error:
            raise ValueError(f"the picture is not in base64 ({error})") from None
        if not png.startswith(PNG_HEAD) or len(png) < len(PNG_HEAD) + 8:
            raise ValueError("the picture is not a PNG file")
        width, height = struct.unpack_from(">II", png, len(PNG_HEAD))
        if (height, width) != (self.frame.height, self.frame.width):
            frame = f"{self.frame.width} x {self.frame.height}"
            raise ValueError(f"the picture has {width} x {height} pixels, but the frame has {frame}")
        return png


class FeatureProperties(NerveMeasures, FrameNumber):
    """The properties of a Feature."""

    confidence: Confidence
    warnings: Warnings


class Feature(_Form):
    """The response of /segment for one frame as GeoJSON."""

    properties: FeatureProperties

    @property
    def index(self) -> int:
        """Return the frame's number."""
        return self.properties.index


Outcome = Segmentation | Feature | FailedFrame

MODEL_DESCRIPTION = TypeAdapter(ModelDescription)
ERROR_RESPONSE = TypeAdapter(ErrorResponse)
SEGMENTATION_OUTCOME: TypeAdapter[Outcome] = TypeAdapter(
    Annotated[FailedFrame | Segmentation, Field(union_mode="left_to_right")]
)
FEATURE_OUTCOME: TypeAdapter[Outcome] = TypeAdapter(Annotated[FailedFrame | Feature, Field(union_mode="left_to_right")])
