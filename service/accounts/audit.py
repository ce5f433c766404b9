"""What is kept of an answer: a line of JSON, and no pixels, names, file names or DICOM identifiers.

A line for each frame that gets a mask, written before the mask leaves: what cannot be audited is not answered (503).
Of an answer without a mask, an error say, there is a line too, before its end leaves; where that cannot be written, the
log says so.

    frame, mask    sha256 of the pixels, uint8 (uint16 for a frame of 16 bits, low byte first), row by row: the same
                   picture has the same digest in any file, and the digest is not the digest of a patient's file
    who, client    the name of the key, and the address
    status         0 where the connection ended before an answer
    milliseconds   of a frame, decode and network; else from the request's head to its answer

NERVEMASK_AUDIT names the file; without it, or with `-`, the lines go to standard output. A line reaches the system at
once, so it outlives the process; it is not forced onto the disk. The file may be moved away at any time.
"""

import hashlib
import json
import os
from datetime import UTC, datetime
from typing import Any

import numpy as np

from service.card import Card
from service.segmenter import Seen

STANDARD_OUTPUT = "-"


def check() -> None:
    """Raises OSError where no line could be written."""
    if (path := _path()) != STANDARD_OUTPUT:
        os.close(_open(path))


def write(line: dict[str, Any]) -> None:
    """One line more, whole, whoever else writes. Raises OSError."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    text = (json.dumps({"time": now, **line}, separators=(",", ":")) + "\n").encode()
    path = _path()
    file = 1 if path == STANDARD_OUTPUT else _open(path)
    try:
        written = os.write(file, text)
        if written != len(text):
            os.write(file, b"\n")  # the next line shall not hang on a torn one
            raise OSError(f"only {written} of {len(text)} bytes could be written")
    finally:
        if file != 1:
            os.close(file)


def of_frame(seen: Seen, card: Card) -> dict[str, Any]:
    """What a line says of a frame."""
    found = seen.found
    return {
        "index": seen.frame.index,
        "frame": digest(seen.frame.pixels),
        "mask": digest(found.mask),
        "present": found.present,
        "presence": round(found.presence, 4),
        "model": card.name,
        "version": card.version,
        "run": card.run_id,
        "milliseconds": round(seen.decode_milliseconds + found.milliseconds, 2),
    }


def digest(pixels: np.ndarray) -> str:
    """sha256 of uint8 or uint16 (height, width), low byte first."""
    return hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()


def _path() -> str:
    return os.environ.get("NERVEMASK_AUDIT") or STANDARD_OUTPUT


def _open(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
