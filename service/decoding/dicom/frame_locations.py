"""Find where each frame is in the pixel data of a DICOM file, without decoding it.

Nothing here trusts a length or a number in the file. Each is compared with a limit before anything is read or kept.
"""

import itertools
import os
import struct
from collections.abc import Iterator
from typing import IO, NamedTuple

from pydicom import uid

from service.decoding.dicom.dicom_header import PIXEL_DATA, malformed_error
from service.decoding.frame import MAX_FRAMES
from service.errors import ErrorCode, FrameError

MAX_FRAGMENTS = 200_000  # of compressed pixels: twenty for each frame of the longest cine
ITEM, SEQUENCE_DELIMITER = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)
UNDEFINED_LENGTH = 0xFFFFFFFF
PIXEL_GROUP = PIXEL_DATA >> 16
END_OF_IMAGE = b"\xff\xd9"  # the last marker of JPEG, JPEG-LS and JPEG 2000 alike
TAIL_BYTES = 10  # where that marker is searched: padding may follow it

Fragment = tuple[int, int]  # position in the file, and length; both in bytes


class PixelElement(NamedTuple):
    """The element of the pixels. length: in bytes; None for compressed pixels."""

    vr: str
    length: int | None


def read_pixel_element(file: IO[bytes], syntax: uid.UID) -> PixelElement:
    """Return the element of the pixels. Move `file` from its start to its first value byte.

    Raises FrameError (400, 422).
    """
    order = "<" if syntax.is_little_endian else ">"
    layout = f"{order}HHL" if syntax.is_implicit_VR else f"{order}HH2sHL"
    head = file.read(struct.calcsize(layout))
    if not head:
        raise FrameError(ErrorCode.NO_PIXELS, "The DICOM file has no pixel data, or is truncated before them.")
    group, element, *vr, length = struct.unpack(layout, head)
    if group << 16 | element != PIXEL_DATA:
        message = "The DICOM file's pixels are floating-point numbers. Send 8- or 16-bit integers."
        raise FrameError(ErrorCode.PIXEL_TYPE, message)
    if syntax.is_encapsulated != (length == UNDEFINED_LENGTH):
        raise malformed_error()
    return PixelElement(vr[0].decode("ascii") if vr else "OW", None if length == UNDEFINED_LENGTH else int(length))


def available_bytes(file: IO[bytes], length: int) -> int:
    """Return how many of the declared `length` bytes follow in a file. Its position stays."""
    start = file.tell()
    end = file.seek(0, os.SEEK_END)
    file.seek(start)
    return min(length, end - start)


def has_strange_end(file: IO[bytes], length: int) -> bool:
    """Return whether something else than an element follows `length` bytes of pixels. The position of `file` stays.

    Elements are in the order of their tags, and few have a higher one than the pixels. Zeros are padding.
    """
    start = file.tell()
    file.seek(start + length)
    tag = file.read(4)
    file.seek(start)
    return len(tag) == 4 and any(tag) and max(struct.unpack("<HH", tag)[0], struct.unpack(">HH", tag)[0]) < PIXEL_GROUP


def locate_uncompressed_frames(start: int, frame_count: int, frame_bytes: int) -> list[list[Fragment]]:
    """Return one fragment for each frame. start: position of the first byte of the pixels."""
    return [[(start + index * frame_bytes, frame_bytes)] for index in range(frame_count)]


def locate_compressed_frames(file: IO[bytes], frame_count: int | None, max_frame_bytes: int) -> list[list[Fragment]]:
    """Return the fragments of each frame (PS3.5 A.4). `file` is at the first byte of the pixel data.

    pydicom's own readers of fragments believe every length, keep any number of fragments, and return more frames than
    declared.

    frame_count: as the header declares it. None: it does not, and end-of-image markers count.
    max_frame_bytes: limit for one compressed frame.

    Raises FrameError (400, 413), and other exceptions over a damaged offset table.
    """
    offsets = _read_offset_table(file, frame_count)
    fragments = _list_fragments(file)
    if len(fragments) < (frame_count or 1):
        raise _frame_count_error(frame_count or 1, f"Its pixels have only {len(fragments)} fragments")
    frames: list[list[Fragment]] = []
    starts_frame = _find_frame_starts(file, fragments, frame_count, offsets)
    for fragment, is_first in zip(fragments, starts_frame, strict=True):
        if is_first:
            frames.append([])
        frames[-1].append(fragment)
    if frame_count is not None and len(frames) != frame_count:
        raise _frame_count_error(frame_count, f"The start of {len(frames)} frames can be found")
    if any(sum(length for _, length in frame) > max_frame_bytes for frame in frames):
        raise FrameError(ErrorCode.MALFORMED, f"A compressed frame has more than {max_frame_bytes} bytes.")
    return frames


def locate_video(file: IO[bytes]) -> list[Fragment]:
    """Return the fragments of a video: one stream of all frames. `file` is at the first byte of the pixel data.

    Raises FrameError (400, 413).
    """
    table_length = _read_item_length(file)
    if table_length is None:
        raise malformed_error()
    file.seek(table_length, os.SEEK_CUR)
    return _list_fragments(file)


def _list_fragments(file: IO[bytes]) -> list[Fragment]:
    fragments = list(itertools.islice(_iterate_fragments(file), MAX_FRAGMENTS + 1))
    if len(fragments) > MAX_FRAGMENTS:
        raise FrameError(ErrorCode.TOO_MANY_FRAGMENTS, f"The pixel data have more than {MAX_FRAGMENTS} fragments.")
    return fragments


def _read_offset_table(file: IO[bytes], frame_count: int | None) -> tuple[int, ...]:
    """Return the Basic Offset Table: the start of each frame in bytes from the table's own end.

    Empty if the table has not one entry for each frame.
    """
    length = _read_item_length(file)
    if length is None:
        raise malformed_error()
    if length > 4 * (frame_count or MAX_FRAMES):
        raise _frame_count_error(frame_count or 1, f"The offset table has {length // 4} entries")
    table = file.read(length)
    # Some encoders write an entry for the first frame alone. Such a table says nothing.
    return struct.unpack(f"<{frame_count}L", table) if length == 4 * (frame_count or 0) else ()


def _iterate_fragments(file: IO[bytes]) -> Iterator[Fragment]:
    while (length := _read_item_length(file)) is not None:
        position = file.tell()
        yield position, length
        file.seek(position + length)


def _read_item_length(file: IO[bytes]) -> int | None:
    """Return the length in bytes of the item that begins here; None after the last. Little-endian (PS3.5 A.4)."""
    head = file.read(8)
    if len(head) < 8:
        return None
    group, element, length = struct.unpack("<HHL", head)
    if (group, element) == SEQUENCE_DELIMITER:
        return None
    if (group, element) != ITEM or length == UNDEFINED_LENGTH:
        raise malformed_error()
    return int(length)


def _find_frame_starts(
    file: IO[bytes], fragments: list[Fragment], frame_count: int | None, offsets: tuple[int, ...]
) -> list[bool]:
    """Return, for each fragment, whether a frame begins with it.

    If there are as many fragments as frames, each fragment is a frame. Otherwise the offset table decides, if it fits
    the fragments. If not, a frame begins after each end-of-image marker.
    """
    if len(fragments) == frame_count:
        return [True] * frame_count
    starts = {fragments[0][0] + offset for offset in offsets}
    by_table = [position in starts for position, _ in fragments]
    if by_table[0] and sum(by_table) == frame_count:
        return by_table
    return [True, *(_ends_image(file, fragment) for fragment in fragments[:-1])]


def _ends_image(file: IO[bytes], fragment: Fragment) -> bool:
    position, length = fragment
    tail_bytes = min(length, TAIL_BYTES)
    file.seek(position + length - tail_bytes)
    return END_OF_IMAGE in file.read(tail_bytes)


def _frame_count_error(declared: int, reason: str) -> FrameError:
    return FrameError(ErrorCode.MALFORMED, f"The DICOM file declares {declared} frame(s). {reason}.")
