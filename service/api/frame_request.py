"""A request that uploads a frame or cine: its parameters, its frames and the model that segments them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from service.api.responses import PICTURE_KINDS
from service.decoding.cine import Cine, open_cine, select_frame
from service.errors import ErrorCode, FrameError
from service.inference.segmenter import FrameFailure, FrameResult
from service.monitoring.monitored_segmenter import MonitoredSegmenter
from service.request import RequestState

if TYPE_CHECKING:
    from starlette.requests import Request

GEOJSON = "application/geo+json"


class FrameRequest:
    """A request with an upload. It keeps its model, also when a new champion is deployed meanwhile."""

    def __init__(self, request: "Request", segmenter: MonitoredSegmenter):
        self.parameters, self.headers = request.query_params, request.headers
        self.state = RequestState.of(request.scope)
        self.segmenter, self.card = segmenter, segmenter.card

    @property
    def accepts_geojson(self) -> bool:
        """Whether the client asks for GeoJSON in place of JSON."""
        return GEOJSON in self.headers.get("accept", "")

    def picture_kind(self) -> str | None:
        """The parameter `picture`, one of PICTURE_KINDS. Raises FrameError (400)."""
        kind = self.parameters.get("picture")
        if kind not in (None, *PICTURE_KINDS):
            kinds = ", ".join(PICTURE_KINDS)
            raise FrameError(ErrorCode.PICTURE, f"The parameter picture is {kind[:20]!r}: use one of {kinds}.", 400)
        if kind and self.accepts_geojson:
            message = "GeoJSON cannot contain a picture: remove the parameter picture, or accept application/json."
            raise FrameError(ErrorCode.PICTURE, message, 400)
        return kind

    def open_cine(self) -> Cine:
        """The frames of the uploaded file. Raises FrameError."""
        if self.state.upload is None:
            raise RuntimeError("the upload middleware did not read this request's upload")
        return open_cine(self.state.upload)

    def asks_for_all_frames(self, cine: Cine) -> bool:
        """Whether the client uploads a cine and does not choose one of its frames."""
        return cine.frame_count > 1 and "index" not in self.parameters

    def segment_frame(self, cine: Cine) -> FrameResult:
        """The result for the frame that the parameter `index` chooses, or for the only one. Raises FrameError."""
        return self.segmenter.segment_frame(cine, select_frame(cine, self.parameters.get("index")), self.state)

    def segment_cine(self, cine: Cine) -> Iterator[list[FrameResult | FrameFailure]]:
        """The results for all frames in order, in lists, as soon as they are ready. Raises FrameError."""
        return self.segmenter.segment_cine(cine, self.state)
