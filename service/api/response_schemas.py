"""The JSON of every response, as types: mypy checks the code that builds it, and pydantic makes the JSON schemas.

Responses are plain dictionaries (TypedDict), and no request waits for a validation: the tests validate them.
"""

from typing import Annotated, Literal, NotRequired

from pydantic import ConfigDict, Field, NonNegativeFloat, NonNegativeInt, with_config
from typing_extensions import TypeAliasType, TypedDict

from service.errors import ErrorCode

closed = with_config(ConfigDict(extra="forbid"))  # an object with these members and no others

PRESENCE = (
    "Probability that the frame shows a nerve. Where all training and validation frames show one, it is the "
    "uncalibrated peak of the mask's probability; presence_auc of validation is then null in /model."
)
MESSAGE = "Number of the client's message that this responds to, from 0."

Share = Annotated[float, Field(ge=0, le=1)]
Presence = Annotated[Share, Field(description=PRESENCE)]
Confidence = Annotated[Share, Field(description="The Dice that the mask is likely to reach.")]
Pair = Field(min_length=2, max_length=2)
Box = Annotated[list[NonNegativeInt], Field(min_length=4, max_length=4, description="x, y, width, height in pixels.")]
Spacing = Annotated[
    list[NonNegativeFloat], Pair, Field(description="Millimetres from column to column and from row to row.")
]
Size = Annotated[list[NonNegativeFloat], Pair, Field(description="Width and height of the box in millimetres.")]
FrameRate = Annotated[NonNegativeFloat, Field(description="Frames per second of the cine.")]
Contours = Annotated[
    list[list[Annotated[list[NonNegativeInt], Pair]]],
    Field(description="Closed polygons of [x, y] through the outermost pixels of the mask. Fill by the even-odd rule."),
]
RunLengths = Annotated[
    str, Field(description="Kaggle's run-length encoding: pairs of 1-based start and length, column by column.")
]
DataUrl = Annotated[str, Field(description="The requested picture as a data URL.")]
MessageNumber = Annotated[NonNegativeInt, Field(description=MESSAGE)]
Rings = list[list[Annotated[list[float], Pair]]]  # of a polygon; RFC 7946 3.1.6, positions in pixels


@closed
class FrameProperties(TypedDict):
    """Facts from the frame's file. index counts from 0; area is the scan area. null: the file does not say."""

    height: NonNegativeInt
    width: NonNegativeInt
    index: NonNegativeInt
    area: Box | None
    spacing_mm: Spacing | None
    rate_hz: FrameRate | None


@closed
class NerveMeasures(TypedDict):
    """Whether the frame shows a nerve, and the nerve's size. box: the mask's bounding box.

    present: null if the service abstains, because the confidence is below `min_confidence`. The mask is then empty.
    """

    present: bool | None
    presence: Presence
    area_px: NonNegativeInt
    area_mm2: NonNegativeFloat | None
    box: Box | None
    size_mm: Size | None


@closed
class Outlines(TypedDict):
    """With `?outlines=true`: an inner and an outer outline around the mask.

    Of the frames with `guaranteed` and a nerve, the outer outline holds at least `coverage` of the nerve in `level`. Of
    the frames with `guaranteed`, at least `coverage` of the inner outline is nerve in `level`. It may be empty.
    """

    outer: Contours
    inner: Contours
    coverage: Share
    level: Share
    guaranteed: bool


@closed
class Nerve(NerveMeasures):
    """The nerve's measures, and its mask in two encodings. Without a mask there are no outlines."""

    contours: Contours
    rle: RunLengths
    outlines: NotRequired[Outlines]


@closed
class ConfidenceValues(TypedDict):
    """How good the mask is likely to be, also if it is left out. null: the network finds no nerve."""

    mask: Confidence | None


@closed
class Model(TypedDict):
    """The model that made the mask, as its card names it. run_id: MLflow run; data: DVC's hash of the data."""

    name: str
    version: str
    run_id: str
    data: str
    commit: str


@closed
class Milliseconds(TypedDict):
    """Duration of each step."""

    decode: NonNegativeFloat
    network: NonNegativeFloat
    answer: NonNegativeFloat


@closed
class Segmentation(TypedDict):
    """The response of /segment for one frame."""

    frame: FrameProperties
    nerve: Nerve
    confidence: ConfidenceValues
    model: Model
    milliseconds: Milliseconds
    warnings: list[str]
    picture: NotRequired[DataUrl]


@closed
class Polygon(TypedDict):
    """A GeoJSON Polygon (RFC 7946 3.1.6) in pixels."""

    type: Literal["Polygon"]
    coordinates: Rings


@closed
class MultiPolygon(TypedDict):
    """A GeoJSON MultiPolygon (RFC 7946 3.1.7) in pixels."""

    type: Literal["MultiPolygon"]
    coordinates: list[Rings]


Geometry = Annotated[Polygon | MultiPolygon, Field(discriminator="type")]


@closed
class Classification(TypedDict):
    """The class of a Feature."""

    name: str


@closed
class FeatureProperties(NerveMeasures):
    """Properties of a Feature. index: the frame's number in its cine, from 0."""

    classification: Classification
    index: NonNegativeInt
    confidence: ConfidenceValues
    model: Model
    warnings: list[str]


@closed
class Feature(TypedDict):
    """The response of /segment for one frame as a GeoJSON Feature (RFC 7946). The geometry of an empty mask is null."""

    type: Literal["Feature"]
    geometry: Geometry | None
    properties: FeatureProperties


@closed
class ErrorDetail(TypedDict):
    """A code for programs and a message for people."""

    code: ErrorCode
    message: str


@closed
class Error(TypedDict):
    """The body of every error."""

    error: ErrorDetail


@closed
class FrameNumber(TypedDict):
    """The number of a frame in its cine, from 0."""

    index: NonNegativeInt


@closed
class FailedFrame(TypedDict):
    """A frame of a cine that has no mask, and the reason."""

    frame: FrameNumber
    error: ErrorDetail


@closed
class StreamSegmentation(Segmentation):
    """A stream's response for one frame."""

    message: MessageNumber


@closed
class StreamFailedFrame(FailedFrame):
    """A stream's response for a frame of a cine that has no mask."""

    message: MessageNumber


@closed
class StreamError(TypedDict):
    """A stream's response for a message that has no mask."""

    message: MessageNumber
    error: ErrorDetail


@closed
class DroppedMessage(TypedDict):
    """With `?drop=true`: a stream's response for a message that a newer one replaced."""

    message: MessageNumber
    dropped: Literal[True]


StreamResponse = TypeAliasType("StreamResponse", StreamSegmentation | StreamFailedFrame | StreamError | DroppedMessage)
