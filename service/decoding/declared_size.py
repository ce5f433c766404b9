"""What a file's header declares about the size of its pixels, and the memory that a frame of this size takes.

Only fixed fields are read, in the worker, before anything is decoded. Nothing relies on them but limits: a decoder that
takes more than the declared pixels need is ended (`decoder_process`).
"""

import struct
from collections.abc import Callable
from typing import IO, NamedTuple

from service.decoding.file_formats import Format
from service.decoding.jpeg_2000_header import read_jpeg_2000_header
from service.decoding.jpeg_header import read_jpeg_header

# Bytes that decoders take for each byte of the stored pixels, measured with frames of 16 million pixels.
PICTURE_COPIES, DICOM_COPIES, UNCOMPRESSED_COPIES, VIDEO_COPIES = 3, 9, 2, 28
GREY_BYTES = 2  # of a pixel of the decoded frame
SEGMENTED_BYTES = 12  # of a pixel: the frame, its copy and its probabilities as float32, and masks
HEAD_BYTES = 2**16  # of a file, for headers at its start
JPEG_XL_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))  # width and height, ISO/IEC 18181-1
TIFF_WIDTH, TIFF_HEIGHT, TIFF_BITS, TIFF_PHOTOMETRIC, TIFF_SAMPLES = 256, 257, 258, 262, 277
TIFF_TYPES = {3: "H", 4: "L", 16: "Q"}
TIFF_PALETTE = 3
MAX_TIFF_TAGS = 4096


class DeclaredSize(NamedTuple):
    """The pixels of a frame as its file stores them.

    bytes_per_pixel: of all samples of a pixel. copies: bytes that the decoder takes for each of these bytes.
    """

    rows: int
    columns: int
    bytes_per_pixel: int
    copies: int = PICTURE_COPIES

    @property
    def stored_bytes(self) -> int:
        """Return the bytes of the pixels as the file stores them."""
        return self.rows * self.columns * self.bytes_per_pixel

    @property
    def decoder_bytes(self) -> int:
        """Return the bytes that it takes to decode the frame."""
        return self.rows * self.columns * (self.copies * self.bytes_per_pixel + GREY_BYTES)

    def frame_bytes(self, encoded_bytes: int, rendered_bytes_per_pixel: int = 0) -> int:
        """Return the bytes that it takes to decode and segment the frame, and to render the response.

        encoded_bytes: of the frame in its file. rendered_bytes_per_pixel: of the response, with its copies.
        """
        rendered = GREY_BYTES + 1 + rendered_bytes_per_pixel
        after_decoding = self.rows * self.columns * max(SEGMENTED_BYTES, rendered)
        encoded_copies = 1 if self.copies == UNCOMPRESSED_COPIES else 2  # one is in the decoder process
        return encoded_copies * encoded_bytes + max(self.decoder_bytes, after_decoding)


UNKNOWN_SIZE = DeclaredSize(0, 0, 0)  # of a damaged header


def read_declared_size(file: IO[bytes], file_format: Format, page: int = 0) -> DeclaredSize:
    """Return the declared size of a picture; UNKNOWN_SIZE for a damaged header. page: of a TIFF file, its position."""
    try:
        if file_format is Format.TIFF:
            return _read_tiff(file, page)
        file.seek(0)
        return READERS[file_format](file.read(HEAD_BYTES) if file_format not in WHOLE_FILE else file.read())
    except (LookupError, ValueError, struct.error, OverflowError, OSError):
        return UNKNOWN_SIZE


def _read_png(head: bytes) -> DeclaredSize:
    columns, rows, depth, colour = struct.unpack_from(">LLBB", head, 16)
    samples = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}[colour]
    return DeclaredSize(rows, columns, samples * max(1, depth // 8))


def _read_jpeg(data: bytes) -> DeclaredSize:
    header = read_jpeg_header(data)
    samples = len(header.component_ids)
    return DeclaredSize(header.rows, header.columns, samples * (1 if header.precision <= 8 else 2))


def _read_jpeg_2000(head: bytes) -> DeclaredSize:
    header = read_jpeg_2000_header(head)
    return DeclaredSize(header.rows, header.columns, header.samples * (1 if header.bits <= 8 else 2))


def _read_jpeg_xl(head: bytes) -> DeclaredSize:
    """Read the SizeHeader (ISO/IEC 18181-1 D.2). Samples are assumed to be 16-bit RGB with alpha."""
    position = 0
    if head.startswith(b"\0\0\0\x0cJXL "):  # a container: the codestream is in the box jxlc, or its parts in jxlp
        for kind, skipped in ((b"jxlc", 4), (b"jxlp", 8)):
            if (found := head.find(kind)) >= 0:
                position = found + skipped
                break
    bits = int.from_bytes(head[position + 2 : position + 16], "little")

    def read(count: int) -> int:
        nonlocal bits
        value = bits & ((1 << count) - 1)
        bits >>= count
        return value

    is_small = read(1)

    def read_side() -> int:
        return 8 * (read(5) + 1) if is_small else 1 + read((9, 13, 18, 30)[read(2)])

    rows = read_side()
    ratio = read(3)
    columns = rows * JPEG_XL_RATIOS[ratio - 1][0] // JPEG_XL_RATIOS[ratio - 1][1] if ratio else read_side()
    return DeclaredSize(rows, columns, 8)


def _read_tiff(file: IO[bytes], page: int) -> DeclaredSize:
    file.seek(0)
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    is_big = struct.unpack_from(order + "H", head, 2)[0] == 43
    count_format, entry_format = (order + "Q", order + "HHQ8s") if is_big else (order + "H", order + "HHL4s")
    file.seek(page or struct.unpack_from(order + ("Q" if is_big else "L"), head, 8 if is_big else 4)[0])
    (count,) = struct.unpack(count_format, file.read(struct.calcsize(count_format)))
    tags: dict[int, int] = {TIFF_SAMPLES: 1, TIFF_BITS: 8, TIFF_PHOTOMETRIC: 0}
    size = struct.calcsize(entry_format)
    directory = file.read(min(count, MAX_TIFF_TAGS) * size)
    for tag, kind, values, field in struct.iter_unpack(entry_format, directory[: len(directory) // size * size]):
        if tag == TIFF_BITS and values > len(field) // 2:  # the field holds the position of the values
            file.seek(struct.unpack(order + ("Q" if is_big else "L"), field)[0])
            field = file.read(2)
        if kind in TIFF_TYPES:
            (tags[tag],) = struct.unpack_from(order + TIFF_TYPES[kind], field)
    samples = 3 if tags[TIFF_PHOTOMETRIC] == TIFF_PALETTE else tags[TIFF_SAMPLES]
    return DeclaredSize(tags[TIFF_HEIGHT], tags[TIFF_WIDTH], samples * (1 if tags[TIFF_BITS] <= 8 else 2))


READERS: dict[Format, Callable[[bytes], DeclaredSize]] = {
    Format.PNG: _read_png,
    Format.JPEG: _read_jpeg,
    Format.JPEG_LS: _read_jpeg,
    Format.JPEG_XL: _read_jpeg_xl,
    Format.JPEG_2000: _read_jpeg_2000,
}
WHOLE_FILE = (Format.JPEG, Format.JPEG_LS)  # the header follows EXIF data of any length
