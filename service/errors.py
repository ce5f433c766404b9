"""Errors that a client can cause, with their codes, and the error of an unusable model folder."""

from enum import StrEnum
from typing import Self


class ErrorCode(StrEnum):
    """The machine-readable code of an error."""

    # This is the only list of codes, and the OpenAPI document is built from it. A code has a description for API users
    # and its HTTP statuses. The first code of a status is its example in the document.

    description: str
    statuses: tuple[int, ...]

    def __new__(cls, value: str, description: str = "", *statuses: int) -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.description = description
        member.statuses = statuses
        return member

    MALFORMED = "malformed", "The file is damaged or truncated.", 400
    BROKE_OFF = "broke_off", "The client closed the connection before the end of the request.", 400
    DECODER_ENDED = "decoder_ended", "The file is damaged or too costly to decode: it ended two decoder processes.", 400
    EMPTY = "empty", "The upload is empty.", 400
    INDEX = "index", "The parameter `index` is not a frame number.", 400
    SMOOTH = "smooth", "The parameter `smooth` is not true or false.", 400
    OUTLINES = "outlines", "The parameter `outlines` is not true or false, or GeoJSON is requested with it.", 400
    MIN_CONFIDENCE = "min_confidence", "The parameter `min_confidence` is not a number from 0 to 1.", 400
    MULTIPART = "multipart", "The multipart body is malformed.", 400
    NOT_A_FILE = "not_a_file", "The field `frame`, or the message of a stream, holds text instead of a file.", 400
    ONE_FRAME = "one_frame", "The form does not have exactly one file in the field `frame`.", 400
    BAD_REQUEST = "bad_request", "The server rejected the request before it read the upload.", 400
    HOST = "host", "The Host header names a host that the service does not serve.", 400
    PICTURE = "picture", "The parameter `picture` has an unknown value, or GeoJSON is requested with it.", 400
    SETTINGS = "settings", "A parameter of the stream is unknown or has an unknown value.", 400
    UNKNOWN_PARAMETER = "unknown_parameter", "A parameter or form field is unknown, or occurs twice.", 400
    KEY = "key", "The request has no valid API key.", 401
    NOT_FOUND = "not_found", "The route does not exist or is switched off.", 404
    METHOD_NOT_ALLOWED = "method_not_allowed", "The route does not accept this HTTP method.", 405
    TOO_LARGE = "too_large", "The upload is larger than the limit in bytes.", 413
    TOO_MANY_FRAGMENTS = "too_many_fragments", "The DICOM file's pixel data has too many fragments.", 413
    TOO_MANY_SCANS = "too_many_scans", "The JPEG has too many scans.", 413
    TOO_MANY_FRAMES = "too_many_frames", "The cine has too many frames.", 413
    TOO_MANY_PIXELS = "too_many_pixels", "The frame has too many pixels for the service, or for its memory.", 413
    URL_TOO_LONG = "url_too_long", "The URL is too long.", 414
    UNKNOWN_TYPE = "unknown_type", "The type of the file is not read.", 415
    CONTENT_TYPE = "content_type", "The Content-Type is not supported.", 415
    TOO_SMALL = "too_small", "The frame is too small.", 422
    HEADER = "header", "The DICOM header is too large or has too many parts (413), or is damaged (422).", 413, 422
    NO_IDENTITY = "no_identity", "The DICOM file lacks an attribute that its segmentation must refer to.", 422
    NO_PIXELS = "no_pixels", "The DICOM file has no pixel data.", 422
    NO_SUCH_FRAME = "no_such_frame", "The upload has no frame with this `index`.", 422
    NOT_DICOM = "not_dicom", "The route accepts only DICOM files.", 422
    NOT_ULTRASOUND = "not_ultrasound", "The DICOM file is not an ultrasound image.", 422
    PIXEL_TYPE = "pixel_type", "The type of the pixels is not supported.", 422
    SEVERAL_FRAMES = "several_frames", "The upload has several frames: choose one with `index`.", 422
    SEVERAL_PAGES = "several_pages", "The TIFF file has several pages.", 422
    TRANSFER_SYNTAX = "transfer_syntax", "The DICOM transfer syntax is not supported.", 422
    TOO_MANY = "too_many", "Too many requests at once: try again after the seconds in Retry-After.", 429
    WRONG_KEYS = "wrong_keys", "Too many wrong API keys: try again after the seconds in Retry-After.", 429
    HEADERS_TOO_LARGE = "headers_too_large", "The request has too many or too large headers.", 431
    INTERNAL = "internal", "The service failed on this request.", 500
    NOT_READY = "not_ready", "The service is not ready.", 503
    NO_DECODER = "no_decoder", "A decoder process was ended from outside, for example because memory is short.", 503
    NO_MEMORY = "no_memory", "The service has no memory for the frame now.", 503
    NO_AUDIT = "no_audit", "The service cannot write its audit log.", 503
    NO_ROOM = "no_room", "The service has no disk space for the upload.", 503
    TOO_SLOW = "too_slow", "The response did not begin in time, or the upload was too slow.", 504


class FrameError(Exception):
    """An error in a request: a machine-readable code, a message for people, and the HTTP status.

    code: a member of ErrorCode.
    message: says what is wrong and what to do.
    status: one of the code's statuses; None for the only one.
    retry_after_seconds: when to send the request again, if the status is 429 or 503.

    Raises ValueError for a status that does not belong to the code, and for None if the code has several statuses.
    """

    def __init__(
        self, code: ErrorCode, message: str, status: int | None = None, retry_after_seconds: float = 1.0
    ) -> None:
        super().__init__(message)
        if status is None and len(code.statuses) == 1:
            status = code.statuses[0]
        if status not in code.statuses:
            raise ValueError(f"the error code {code!r} belongs to the statuses {code.statuses}, not to {status}")
        self.code = code
        self.message = message
        self.status: int = status
        self.retry_after_seconds = retry_after_seconds


def too_many_error() -> FrameError:
    """Return the error of a request that exceeds a limit on concurrent requests."""
    return FrameError(ErrorCode.TOO_MANY, "Too many requests at once: try again in a second.")


def too_slow_error(seconds: float | None = None) -> FrameError:
    """Return the error of a response that did not begin in time, or within a number of seconds."""
    limit = "in time" if seconds is None else f"within {seconds:.0f} seconds"
    return FrameError(ErrorCode.TOO_SLOW, f"No response {limit}.")


class ModelFolderError(Exception):
    """A model folder that must not be served. The message names the file and the remedy."""
