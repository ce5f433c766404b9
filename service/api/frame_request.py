"""A request that uploads a frame or cine: its parameters, its frames and the model that segments them."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from service.api.response_bodies import OUTLINES_BYTES, PICTURE_KINDS, RENDERED_PICTURE_BYTES
from service.decoding.cine import Cine, open_cine, select_frame
from service.errors import ErrorCode, FrameError
from service.inference.segmentation_result import FrameFailure, FrameResult
from service.inference.temporal_smoothing import TemporalSmoother
from service.monitoring.monitored_segmenter import MonitoredSegmenter
from service.request_state import AnswerSettings, RequestState

if TYPE_CHECKING:
    from starlette.requests import Request

GEOJSON = "application/geo+json"
T = TypeVar("T")


def parse_min_confidence(text: str | None, default: float = 0.0) -> float:
    """Return the value of the parameter `min_confidence`, 0..1, rounded to four decimals as confidences are.

    Return the default without it. Raises FrameError (400).
    """
    try:
        value = default if text is None else float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:  # also for NaN
        message = "The parameter min_confidence is not a number from 0 to 1."
        raise FrameError(ErrorCode.MIN_CONFIDENCE, message)
    return round(value, 4)


def parse_flag(code: ErrorCode, text: str | None) -> bool:
    """Return the value of the parameter that is named like `code`; False without it. Raises FrameError (400)."""
    if text not in (None, "true", "false"):
        raise FrameError(code, f"The parameter {code} is {text[:20]!r}: use true or false.")
    return text == "true"


class FrameRequest:
    """A request with an upload. It keeps its model, even if a new champion is deployed meanwhile."""

    def __init__(self, request: "Request", segmenter: MonitoredSegmenter):
        self.parameters = request.query_params
        self.headers = request.headers
        self.state = RequestState.of(request.scope)
        self.segmenter = segmenter
        self.card = segmenter.card

    @property
    def accepts_geojson(self) -> bool:
        """Return whether the client asks for GeoJSON in place of JSON."""
        return GEOJSON in self.headers.get("accept", "")

    def picture_kind(self) -> str | None:
        """Return the parameter `picture`, one of PICTURE_KINDS; None without it. Raises FrameError (400)."""
        kind = self.parameters.get("picture")
        self.state.memory.rendered_bytes_per_pixel = RENDERED_PICTURE_BYTES if kind else 0
        if kind not in (None, *PICTURE_KINDS):
            kinds = ", ".join(PICTURE_KINDS)
            raise FrameError(ErrorCode.PICTURE, f"The parameter picture is {kind[:20]!r}: use one of {kinds}.")
        if kind and self.accepts_geojson:
            message = "GeoJSON cannot contain a picture: remove the parameter picture, or accept application/json."
            raise FrameError(ErrorCode.PICTURE, message)
        return kind

    def read_settings(self, default_min_confidence: float = 0.0) -> None:
        """Read the parameters `min_confidence`, `smooth` and `outlines`. Raises FrameError (400)."""
        self.state.settings = settings = AnswerSettings(
            parse_min_confidence(self.parameters.get("min_confidence"), default_min_confidence),
            parse_flag(ErrorCode.SMOOTH, self.parameters.get("smooth")),
            parse_flag(ErrorCode.OUTLINES, self.parameters.get("outlines")),
        )
        if settings.outlines:
            self.state.memory.rendered_bytes_per_pixel += OUTLINES_BYTES

    def open_cine(self) -> Cine:
        """Return the frames of the uploaded file. Raises FrameError."""
        if self.state.upload is None:
            raise RuntimeError("the upload middleware did not read this request's upload")
        with self._counting_ended_decoders():
            return open_cine(self.state.upload, self.state.memory)

    def asks_for_all_frames(self, cine: Cine) -> bool:
        """Return whether the client uploads a cine and does not choose one of its frames."""
        return cine.frame_count > 1 and "index" not in self.parameters

    def segment_frame(self, cine: Cine, render: Callable[[FrameResult], T]) -> T:
        """Segment the frame at the parameter `index`, or the only frame. Return what `render` makes of the result.

        Raises FrameError.
        """
        with self._counting_ended_decoders():
            index = select_frame(cine, self.parameters.get("index"))
            return self.segmenter.segment_cine_frame(cine, index, self.state, render)

    @contextmanager
    def _counting_ended_decoders(self) -> Iterator[None]:
        try:
            yield
        except FrameError as error:
            self.state.count_ended_decoders(error)
            raise

    def segment_cine(self, cine: Cine, render: Callable[[FrameResult], T]) -> Iterator[list[T | FrameFailure]]:
        """Segment all frames; yield `render` of their results in order, in lists, as soon as they are ready.

        Raises FrameError.

        render: called in the threads that segment.
        """
        smoother = TemporalSmoother() if self.state.settings.smooth else None
        return self.segmenter.segment_cine(cine, self.state, render, smoother)
