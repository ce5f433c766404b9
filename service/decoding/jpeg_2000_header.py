"""Read the header of a JPEG 2000 codestream, also of HTJ2K (ISO/IEC 15444-1 annex A, 15444-15)."""

import struct
from typing import NamedTuple

START_OF_CODESTREAM_AND_SIZE = b"\xff\x4f\xff\x51"  # markers SOC and SIZ
CODING_STYLE, START_OF_TILE_PART, END_OF_CODESTREAM = b"\xff\x52", b"\xff\x90", b"\xff\xd9"  # markers COD, SOT, EOC
HIGH_THROUGHPUT = 0x4000  # bit of Rsiz
PADDING = b"\0"  # of a DICOM fragment


class Jpeg2000Header(NamedTuple):
    """What a codestream declares.

    samples, bits: of a pixel, and of a sample. is_transformed: whether colours are transformed, to YBR_RCT or YBR_ICT.
    """

    rows: int
    columns: int
    samples: int
    bits: int
    is_high_throughput: bool
    is_transformed: bool


def read_jpeg_2000_header(data: bytes) -> Jpeg2000Header:
    """Return the header. data: a codestream, or a file that holds one.

    Raises ValueError or struct.error for a damaged one.
    """
    start = data.index(START_OF_CODESTREAM_AND_SIZE)
    capabilities, right, bottom, left, top = struct.unpack_from(">HLLLL", data, start + 6)
    samples, sample_format = struct.unpack_from(">HB", data, start + 40)
    if bottom <= top or right <= left:
        raise ValueError("the picture has no pixels")
    coding_style = data.index(CODING_STYLE, start + 4)
    (is_transformed,) = struct.unpack_from("B", data, coding_style + 8)
    return Jpeg2000Header(
        bottom - top,
        right - left,
        samples,
        (sample_format & 0x7F) + 1,
        bool(capabilities & HIGH_THROUGHPUT),
        is_transformed == 1,
    )


def complete_jpeg_2000(data: bytes) -> bytes:
    """Return the data with the marker of the end, which some encoders leave out.

    Raises ValueError or struct.error if a part of the codestream is missing: some decoders return pixels for it.
    """
    position = data.index(START_OF_TILE_PART, data.index(START_OF_CODESTREAM_AND_SIZE))
    while data[position : position + 2] == START_OF_TILE_PART:
        (length,) = struct.unpack_from(">L", data, position + 6)
        if length == 0:  # the last part; it ends with the codestream
            if END_OF_CODESTREAM not in data[position:]:
                raise ValueError("the codestream is truncated")
            return data
        position += length
    if position <= len(data) and not data[position:].strip(PADDING):
        return data[:position] + END_OF_CODESTREAM
    if data[position : position + 2] != END_OF_CODESTREAM:
        raise ValueError("the codestream is truncated")
    return data
