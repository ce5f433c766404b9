"""Audit log: one JSON line per response. It holds no pixels, names, file names or DICOM identifiers.

Each frame that gets a mask has a line, written before the mask is sent. If the line cannot be written, the service
returns 503. A response without a mask, such as an error, has a line too, written before its last bytes are sent. If
that line cannot be written, it goes to the log.

    frame, mask      sha256 of the pixels, row by row: uint8, or uint16 (low byte first) for a 16-bit frame. The digest
                     is the same for the same picture in any file format, and is not the digest of a patient's file.
    api_key, client  name of the API key, and IP address
    status           HTTP status; 0 if the connection ended before the response
    milliseconds     for a frame: decoding and network; else: from the request's head to the end of the response

NERVEMASK_AUDIT names the file. If it is unset or `-`, the lines go to standard output. Each line is passed to the
operating system at once, so it survives a crash of the process; it is not synced to the disk. The file may be moved
away at any time.
"""

import hashlib
import json
import logging
import os
from datetime import UTC, datetime
from typing import Any

import numpy as np

from service.inference.results import FrameResult
from service.model.card import Card
from service.request import RequestState

log = logging.getLogger("bentoml.nervemask")

STANDARD_OUTPUT = "-"
STDOUT_DESCRIPTOR = 1


def check_writable() -> None:
    """Raise OSError if the audit file cannot be opened for writing."""
    if (path := _path()) != STANDARD_OUTPUT:
        os.close(_open(path))


def write(line: dict[str, Any]) -> None:
    """Append one line with the current time. Lines of several processes do not mix. Raises OSError."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    text = (json.dumps({"time": now, **line}, separators=(",", ":")) + "\n").encode()
    path = _path()
    descriptor = STDOUT_DESCRIPTOR if path == STANDARD_OUTPUT else _open(path)
    try:
        written_bytes = os.write(descriptor, text)
        if written_bytes != len(text):
            os.write(descriptor, b"\n")  # so that the next line does not continue the incomplete one
            raise OSError(f"only {written_bytes} of {len(text)} bytes could be written")
    finally:
        if descriptor != STDOUT_DESCRIPTOR:
            os.close(descriptor)


def write_or_log(line: dict[str, Any]) -> None:
    """Write a line; if that fails, log the line as an error."""
    try:
        write(line)
    except OSError as error:
        log.error("the audit log cannot be written (%s): %s", error, line)


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
        "model": card.name,
        "version": card.version,
        "run": card.run_id,
        "milliseconds": round(result.decode_milliseconds + segmentation.milliseconds, 2),
    }


def digest(pixels: np.ndarray) -> str:
    """Return the sha256 of uint8 or uint16 (height, width) as hexadecimal digits."""
    return hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()


def _path() -> str:
    return os.environ.get("NERVEMASK_AUDIT") or STANDARD_OUTPUT


def _open(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
