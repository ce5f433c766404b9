"""Damage of a JPEG that its decoders pass over: they return pixels for it, some of them wrong."""

import cv2
import numpy as np

from service.decoding.native_messages import native_messages

# libjpeg's messages (jerror.h). After the first two, a part of the picture is missing or noise.
FATAL_MESSAGES = (b"premature end of data segment", b"bad Huffman code")
MESSAGE = b"Corrupt JPEG data"


def jpeg_damage_notes(data: bytes) -> tuple[str, ...]:
    """Return a note if libjpeg finds damage in a JPEG of 8 bits; other kinds are not looked at.

    Raises ValueError if parts of the picture are lost.
    """
    with native_messages() as messages:
        # The smallest picture: the codes are all read, but few pixels are computed.
        cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_8 | cv2.IMREAD_IGNORE_ORIENTATION)
        return notes_of_messages(messages())


def notes_of_messages(written: bytes) -> tuple[str, ...]:
    """Return the notes on a JPEG for which libjpeg has written this. Raises ValueError if parts of it are lost."""
    if any(message in written for message in FATAL_MESSAGES):
        raise ValueError("a part of the JPEG is damaged or missing")
    return ("the JPEG is damaged: a part of the picture may be wrong",) if MESSAGE in written else ()
