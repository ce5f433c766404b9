"""What native decoders write to the standard error output about a damaged file, while they return pixels for it."""

import os
import select
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STANDARD_ERROR = 2  # file descriptor
MAX_MESSAGE_BYTES = 65536

_one_at_a_time = threading.Lock()  # the descriptor belongs to the whole process


@contextmanager
def native_messages() -> Iterator[Callable[[], bytes]]:
    """Yield a function that returns what was written to the standard error output in this `with` block."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)  # what does not fit is lost
    with _one_at_a_time:
        error_output = os.dup(STANDARD_ERROR)
        os.dup2(writer, STANDARD_ERROR)
        try:
            yield lambda: os.read(reader, MAX_MESSAGE_BYTES) if select.select([reader], [], [], 0)[0] else b""
        finally:
            os.dup2(error_output, STANDARD_ERROR)
            for descriptor in (reader, writer, error_output):
                os.close(descriptor)
