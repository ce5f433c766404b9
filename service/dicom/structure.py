"""A DICOM file's structure, apart from what its pixels show: the header, and where each frame lies in the file.

Nothing here trusts a length or a number in the file: what is read, kept or counted is bounded before that is done.
"""

import itertools
import logging
import os
import struct
import warnings
from collections.abc import Iterator
from typing import Any, BinaryIO

import pydicom
from pydicom import Dataset, uid
from pydicom.filereader import read_dataset

from service.errors import FrameError

PREAMBLE_BYTES = 132  # with the four letters DICM (PS3.10)
LIMIT_READS = 50_000  # of header elements and their parts: a hostile header holds millions
# Of a header, as far as it is read. Its sequences are taken apart later, and then weigh a hundred times their bytes.
LIMIT_HEADER_BYTES = 2 * 1024 * 1024
# Longer values are passed over: scanners keep raw data of their own in them. The longest lookup table has half of this.
LONGEST_VALUE_BYTES = 256 * 1024
LIMIT_FRAGMENTS = 200_000  # of compressed pixels: twenty to each frame of the longest cine

PIXEL_DATA = 0x7FE00010
PIXEL_TAGS = (0x7FE00008, 0x7FE00009, PIXEL_DATA)  # the first two hold floats
ITEM, DELIMITER = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)
UNDEFINED_LENGTH = 0xFFFFFFFF
END_OF_IMAGE = b"\xff\xd9"  # of JPEG, JPEG-LS and JPEG 2000 alike
REMEDY = "send it uncompressed, or as RLE, JPEG, JPEG-LS or JPEG 2000"

Fragment = tuple[int, int]  # where it begins in the file, and its length; both in bytes

# What matters in a header is checked here. Of its small faults pydicom would write pages into the log, names and all.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
logging.getLogger("pydicom").setLevel(logging.CRITICAL)
warnings.filterwarnings("ignore", module="pydicom")


class _Bounded:
    """A file that stands only so many reads, and of so many bytes."""

    def __init__(self, file: BinaryIO):
        self.seek, self.tell, self._read = file.seek, file.tell, file.read
        self._reads_left, self._bytes_left = LIMIT_READS, LIMIT_HEADER_BYTES

    def read(self, size: int) -> bytes:
        self._reads_left -= 1
        self._bytes_left -= size
        if self._reads_left < 0:
            raise FrameError("header", f"The DICOM header has more than {LIMIT_READS} parts.", 413)
        if self._bytes_left < 0:
            raise FrameError("header", f"The DICOM header is larger than {LIMIT_HEADER_BYTES // 2**20} MiB.", 413)
        return self._read(size)


def read_header(file: BinaryIO) -> Dataset:
    """Everything before the pixels but the longest values; `file` then stands at the pixels' element.

    Raises FrameError (413, 422), and whatever pydicom raises over a damaged file.
    """
    file.seek(PREAMBLE_BYTES)
    bounded: Any = _Bounded(file)
    meta = read_dataset(bounded, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
    syntax = uid.UID(meta.get("TransferSyntaxUID", ""))
    if not syntax.is_transfer_syntax or syntax.is_private:
        raise FrameError("transfer_syntax", f"The DICOM file's transfer syntax is not known: {syntax or 'none'}.", 422)
    if syntax.is_deflated:
        # A few kilobytes may inflate to gigabytes.
        raise FrameError("transfer_syntax", f"{syntax.name} is not read: {REMEDY}.", 422)
    header = read_dataset(
        bounded,
        syntax.is_implicit_VR,
        syntax.is_little_endian,
        stop_when=lambda tag, *_: tag in PIXEL_TAGS,
        defer_size=LONGEST_VALUE_BYTES,
    )
    header.file_meta = pydicom.dataset.FileMetaDataset(meta)
    return header


def pixel_length(file: BinaryIO, syntax: uid.UID) -> int:
    """How many bytes of pixels are declared. `file` stands at their element, and then at their first byte.

    Raises FrameError (400, 422).
    """
    order = "<" if syntax.is_little_endian else ">"
    form = f"{order}HHL" if syntax.is_implicit_VR else f"{order}HH2sHL"
    head = file.read(struct.calcsize(form))
    if not head:
        raise FrameError("no_pixels", "The DICOM file holds no pixel data, or is cut short before them.", 422)
    group, element, *_, length = struct.unpack(form, head)
    if group << 16 | element != PIXEL_DATA:
        raise FrameError("pixel_type", "The DICOM file's pixels are floats; 8 or 16 bits, unsigned, are read.", 422)
    if syntax.is_encapsulated != (length == UNDEFINED_LENGTH):
        raise malformed()
    return int(length)


def uncompressed_frames(file: BinaryIO, length: int, count: int, frame_bytes: int) -> list[list[Fragment]]:
    """Where each of `count` frames lies: one fragment each. `file` stands at the first byte of pixels.

    length: of all pixels, as the file declares it, in bytes; more may be there than is needed. Raises FrameError 400.
    """
    start = file.tell()
    file.seek(0, os.SEEK_END)
    held = min(length, file.tell() - start)
    if held < count * frame_bytes:
        raise lying(count, f"{held} of {count * frame_bytes} bytes")
    return [[(start + index * frame_bytes, frame_bytes)] for index in range(count)]


def compressed_frames(file: BinaryIO, count: int, most_bytes: int) -> list[list[Fragment]]:
    """Where the fragments of each of `count` frames lie (PS3.5 A.4). `file` stands at the first byte of pixels.

    pydicom's own readers of fragments believe every length, keep as many as come, and give more frames than were
    declared. most_bytes: what one compressed frame may have. Raises FrameError (400, 413), and others
    over a damaged table.
    """
    offsets = _offset_table(file, count)
    fragments = list(itertools.islice(_fragments(file), LIMIT_FRAGMENTS + 1))
    if len(fragments) > LIMIT_FRAGMENTS:
        raise FrameError("too_many_fragments", f"The pixels are in more than {LIMIT_FRAGMENTS} fragments.", 413)
    if len(fragments) < count:
        raise lying(count, f"{len(fragments)} of them")
    frames: list[list[Fragment]] = []
    for fragment, first in zip(fragments, _first_ones(file, fragments, count, offsets), strict=True):
        if first:
            frames.append([])
        frames[-1].append(fragment)
    if len(frames) != count:
        raise lying(count, f"{len(frames)} that can be told apart")
    if any(sum(length for _, length in frame) > most_bytes for frame in frames):
        raise FrameError("malformed", "A compressed frame is larger than its pixels.", 400)
    return frames


def _offset_table(file: BinaryIO, count: int) -> tuple[int, ...]:
    """The Basic Offset Table: where each frame begins, in bytes from its own end; it may be empty."""
    length = _item(file)
    if length is None:
        raise malformed()
    if length not in (0, 4 * count):
        raise lying(count, f"a table of {length // 4}")
    return struct.unpack(f"<{length // 4}L", file.read(length))


def _fragments(file: BinaryIO) -> Iterator[Fragment]:
    while (length := _item(file)) is not None:
        at = file.tell()
        yield at, length
        file.seek(at + length)


def _item(file: BinaryIO) -> int | None:
    """The length of the item that begins here, in bytes; None where there is none more. Compressed is little-endian."""
    head = file.read(8)
    if len(head) < 8:
        return None
    group, element, length = struct.unpack("<HHL", head)
    if (group, element) == DELIMITER:
        return None
    if (group, element) != ITEM or length == UNDEFINED_LENGTH:
        raise malformed()
    return int(length)


def _first_ones(file: BinaryIO, fragments: list[Fragment], count: int, offsets: tuple[int, ...]) -> list[bool]:
    """Of each fragment, whether a frame begins with it: by their number, by the table, or where an image ended."""
    if len(fragments) == count:  # whatever a table says
        return [True] * count
    if offsets:
        starts = {fragments[0][0] + offset for offset in offsets}
        return [at in starts for at, _ in fragments]
    return [True, *(_ends_an_image(file, fragment) for fragment in fragments[:-1])]


def _ends_an_image(file: BinaryIO, fragment: Fragment) -> bool:
    at, length = fragment
    tail = min(length, 10)  # behind the marker may be bytes that fill it up
    file.seek(at + length - tail)
    return END_OF_IMAGE in file.read(tail)


def malformed() -> FrameError:
    return FrameError("malformed", "The DICOM file is damaged or cut short: it cannot be read.", 400)


def lying(frames: int, held: str) -> FrameError:
    return FrameError("malformed", f"The DICOM file declares {frames} frame(s) and holds {held}.", 400)
