"""Audit log: one JSON line per response. It holds no pixels, names, file names or DICOM identifiers.

Each frame that gets a mask has a line, written before the mask is sent. If the line cannot be written, the service
returns 503. A response without a mask, such as an error, has a line too, written before its last bytes are sent. If
that line cannot be written, it goes to the log.

    frame, mask      sha256 of the pixels, row by row: uint8, or uint16 (low byte first) for a 16-bit frame. The digest
                     is the same for the same picture in any file format, and is not the digest of a patient's file.
    api_key, client  name of the API key, and IP address
    status           HTTP status; 0 if the connection ended before the response
    milliseconds     for a frame: decoding and network; else: from the request's head to the end of the response

Refusals of requests without a valid key have no line each: see `refusal_summary`. After lines that could not be
written, a line with the `event` "lost_lines" says how many, and why.

NERVEMASK_AUDIT names the file. If it is unset or `-`, the lines go to standard output. Each line is passed to the
operating system at once, so it survives a crash of the process; it is not synced to the disk. The file may be moved
away at any time. After a full disk a line may be incomplete; the next one starts on a line of its own.
"""

import asyncio
import errno
import functools
import hashlib
import logging
from concurrent.futures import Future
from typing import Any

import numpy as np

from service.inference.segmentation_result import FrameResult
from service.model.card import Card
from service.monitoring.audit_log_file import HANGING, MAX_WRITE_SECONDS, AuditLogFile
from service.request_state import RequestState

log = logging.getLogger("bentoml.nervemask")


@functools.cache
def audit_writer() -> AuditLogFile:
    """Return the writer of this process."""
    return AuditLogFile()


def write(line: dict[str, Any]) -> None:
    """Append one line with the current time. Lines of several processes do not mix. Raises OSError."""
    audit_writer().write(line)


class SubmittedLine:
    """A line, with the current time, that the writer's thread writes."""

    def __init__(self, line: dict[str, Any]):
        self.future: Future[None] | OSError
        try:
            self.future = audit_writer().submit(line)
        except OSError as error:
            self.future = error

    def error(self) -> OSError | None:
        """Wait until the line is written. Return why it is not, or None."""
        if isinstance(self.future, OSError):
            return self.future
        try:
            audit_writer().wait(self.future)
        except OSError as error:
            return error
        return None


def write_all(lines: list[dict[str, Any]]) -> list[OSError | None]:
    """Append lines with the current time, in order; return the error of each, None where it is written.

    This waits once for all lines, and not once for each.
    """
    return [line.error() for line in [SubmittedLine(line) for line in lines]]


def write_or_log(line: dict[str, Any]) -> None:
    """Write a line; if that fails, log the line as an error."""
    try:
        write(line)
    except OSError as error:
        log.error("the audit log cannot be written (%s): %s", error, line)


async def write_or_log_async(line: dict[str, Any]) -> None:
    """Do as `write_or_log` in the event loop, which goes on meanwhile. A cancelled task still writes its line."""
    try:
        future = asyncio.wrap_future(audit_writer().submit(line))
        done, _ = await asyncio.wait({future}, timeout=MAX_WRITE_SECONDS)
        if not done:
            future.add_done_callback(_ignore_result)
            raise OSError(errno.EAGAIN, HANGING)
        future.result()
    except OSError as error:
        log.error("the audit log cannot be written (%s): %s", error, line)


def _ignore_result(future: asyncio.Future[None]) -> None:
    """Mark an exception as seen: asyncio would log a traceback."""
    if not future.cancelled():
        future.exception()


def request_fields(request: RequestState) -> dict[str, Any]:
    """Return the fields that identify the client and the route."""
    return {"api_key": request.api_key_name, "client": request.client_address, "route": request.route}


def frame_fields(result: FrameResult, card: Card) -> dict[str, Any]:
    """Return the fields that describe a frame, its mask and the model."""
    segmentation = result.segmentation
    return {
        "index": result.frame.index,
        "frame": digest(result.frame.pixels),
        "mask": digest(segmentation.mask),
        "present": segmentation.present,
        "presence": round(segmentation.presence, 4),
        "confidence": None if segmentation.confidence is None else round(segmentation.confidence, 4),
        "model": card.name,
        "version": card.version,
        "run": card.run_id,
        "milliseconds": round(result.decode_milliseconds + segmentation.milliseconds, 2),
    }


def digest(pixels: np.ndarray) -> str:
    """Return the sha256 of uint8 or uint16 (height, width) as hexadecimal digits."""
    return hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()
