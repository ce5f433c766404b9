"""Temporary files of uploads that are decoded from the disk, and the error of a full disk."""

import logging
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO

from service.errors import ErrorCode, FrameError

log = logging.getLogger("bentoml.nervemask")


@contextmanager
def raise_no_room() -> Iterator[None]:
    """Turn the error of a file that cannot be written into FrameError 503, and log it for the operator."""
    try:
        yield
    except OSError as error:  # the disk is full or read-only, or the folder is missing
        log.error("a temporary file cannot be written to the disk: %s", error)
        message = "The service has no disk space to decode this file: try again later."
        raise FrameError(ErrorCode.NO_ROOM, message) from error


def write_temporary_file(parts: Iterable[bytes] = ()) -> IO[bytes]:
    """Return a file with these bytes and a name. It is deleted when it is closed. Raises FrameError 503."""
    with raise_no_room():
        file = tempfile.NamedTemporaryFile()  # noqa: SIM115 - the caller closes it
        try:
            for part in parts:
                file.write(part)
            file.flush()
        except BaseException:
            file.close()
            raise
    return file
