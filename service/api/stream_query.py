"""The query parameters of a stream (`/stream`)."""

from dataclasses import dataclass
from typing import Self

from starlette.datastructures import QueryParams

from service.api.frame_request import parse_min_confidence
from service.api.response_bodies import OUTLINES_BYTES, PICTURE_KINDS, RENDERED_PICTURE_BYTES
from service.errors import ErrorCode, FrameError
from service.request_state import DEFAULT_SETTINGS, AnswerSettings

FLAGS = ("drop", "smooth", "outlines")


@dataclass(frozen=True)
class StreamQuery:
    """The query parameters of a stream.

    drop: respond only to the newest frame of the queue, and report the others as dropped.
    picture: the kind of picture in each response; None without one.
    answers: what the client asks of the masks.
    """

    drop: bool
    picture: str | None
    answers: AnswerSettings = DEFAULT_SETTINGS

    @classmethod
    def parse(cls, query: QueryParams) -> Self:
        """Return the parameters of a query. Raises FrameError (400) for an unknown parameter or value."""
        flags = {name: query.get(name, "false") for name in FLAGS}
        picture = query.get("picture")
        if (
            set(query) - {*FLAGS, "picture", "min_confidence"}
            or not {*flags.values()} <= {"true", "false"}
            or picture not in (None, *PICTURE_KINDS)
        ):
            message = (
                f"The parameters of a stream are {', '.join(FLAGS)} (true or false), picture (one of "
                f"{', '.join(PICTURE_KINDS)}) and min_confidence (0 to 1)."
            )
            raise FrameError(ErrorCode.SETTINGS, message)
        drop, smooth, outlines = (value == "true" for value in flags.values())
        return cls(drop, picture, AnswerSettings(parse_min_confidence(query.get("min_confidence")), smooth, outlines))

    @property
    def rendered_bytes_per_pixel(self) -> int:
        """Return the bytes that the pictures and outlines of a response need for each pixel of the frame."""
        pictures = RENDERED_PICTURE_BYTES if self.picture else 0
        return pictures + (OUTLINES_BYTES if self.answers.outlines else 0)
