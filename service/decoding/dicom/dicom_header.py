"""Read the header of a DICOM file: every element before the pixels, with bounds on the work and memory it takes."""

import zlib
from typing import IO, Any, NamedTuple

from pydicom import Dataset, uid
from pydicom.dataset import FileMetaDataset
from pydicom.filereader import read_dataset

from service.decoding.dicom_signature import FILE_META_GROUP, HEAD_BYTES, find_start, has_explicit_vr
from service.decoding.temporary_file import raise_no_room, write_temporary_file
from service.errors import ErrorCode, FrameError
from service.resources.worker_memory import UNLIMITED_MEMORY, RequestMemory

MAX_READS = 50_000  # of header elements and their parts; a hostile header holds millions
# Bytes of the header that are read. pydicom parses its sequences later; they then take a hundred times their size.
MAX_HEADER_BYTES = 2 * 1024 * 1024
# Longer values are skipped: scanners keep private raw data in them. The longest lookup table takes half of this.
MAX_VALUE_BYTES = 256 * 1024
MAX_INFLATED_BYTES = 512 * 1024 * 1024  # of a deflated file; a few kilobytes may inflate to gigabytes
CHUNK_BYTES = 1024 * 1024
FIRST_ELEMENT_BYTES = 8  # tag, value representation and length

FLOAT_PIXEL_DATA, DOUBLE_FLOAT_PIXEL_DATA, PIXEL_DATA = 0x7FE00008, 0x7FE00009, 0x7FE00010
PIXEL_TAGS = (FLOAT_PIXEL_DATA, DOUBLE_FLOAT_PIXEL_DATA, PIXEL_DATA)
SUPPORTED_COMPRESSION = "Send it uncompressed, or as RLE, JPEG, JPEG-LS, JPEG 2000, MPEG-2, H.264 or HEVC"


class OpenedDataset(NamedTuple):
    """A header, and the file that holds the pixels: open at the element of the pixels."""

    header: Dataset
    file: IO[bytes]


class _BoundedFile:
    """A file that allows MAX_READS reads and MAX_HEADER_BYTES bytes, and raises FrameError 413 after that."""

    def __init__(self, file: IO[bytes]):
        self.seek, self.tell, self._read = file.seek, file.tell, file.read
        self._reads_left, self._bytes_left = MAX_READS, MAX_HEADER_BYTES

    def read(self, size: int) -> bytes:
        self._reads_left -= 1
        self._bytes_left -= size
        if self._reads_left < 0:
            raise FrameError(ErrorCode.HEADER, f"The DICOM header has more than {MAX_READS} parts.", 413)
        if self._bytes_left < 0:
            raise FrameError(ErrorCode.HEADER, f"The DICOM header is larger than {MAX_HEADER_BYTES // 2**20} MiB.", 413)
        return self._read(size)


def read_header(file: IO[bytes], memory: RequestMemory = UNLIMITED_MEMORY) -> OpenedDataset:
    """Return all elements before the pixels, without values over MAX_VALUE_BYTES.

    memory: where the bytes of an inflated file are reserved.

    Raises FrameError (413, 422, 429), and any exception of pydicom over a damaged file.
    """
    head = file.read(HEAD_BYTES)
    start = find_start(head)
    if start is None:
        raise malformed_error()
    file.seek(start)
    first_element = file.read(FIRST_ELEMENT_BYTES)
    file.seek(start)
    bounded_file: Any = _BoundedFile(file)
    file_meta = read_dataset(bounded_file, False, True, stop_when=lambda tag, *_: tag >> 16 != FILE_META_GROUP)
    if not file_meta:  # a dataset without file meta information: its transfer syntax is a guess
        explicit = has_explicit_vr(first_element)
        file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian if explicit else uid.ImplicitVRLittleEndian
    syntax = _check_transfer_syntax(file_meta)
    if syntax.is_deflated:
        file = _inflate(file, memory)
        bounded_file = _BoundedFile(file)
    header = read_dataset(
        bounded_file,
        syntax.is_implicit_VR,
        syntax.is_little_endian,
        stop_when=lambda tag, *_: tag in PIXEL_TAGS,
        defer_size=MAX_VALUE_BYTES,
    )
    header.file_meta = FileMetaDataset(file_meta)
    return OpenedDataset(header, file)


def _inflate(file: IO[bytes], memory: RequestMemory) -> IO[bytes]:
    """Return a temporary file with the inflated rest of a deflated file (PS3.5 A.5).

    Raises FrameError (413, 429, 503).
    """
    inflated = write_temporary_file()  # the cine reads it later
    decompressor = zlib.decompressobj(-zlib.MAX_WBITS)
    while not decompressor.eof and (chunk := file.read(CHUNK_BYTES)):
        # A byte of padding may follow the compressed data. It stays in unconsumed_tail for ever.
        while chunk and not decompressor.eof:
            memory.reserve_file(CHUNK_BYTES)
            with raise_no_room():
                inflated.write(decompressor.decompress(chunk, CHUNK_BYTES))
            if inflated.tell() > MAX_INFLATED_BYTES:
                message = f"The deflated DICOM file inflates to more than {MAX_INFLATED_BYTES // 2**20} MiB."
                raise FrameError(ErrorCode.TOO_LARGE, message)
            chunk = decompressor.unconsumed_tail
    with raise_no_room():
        inflated.write(decompressor.flush())
        inflated.seek(0)
    return inflated


def _check_transfer_syntax(file_meta: Dataset) -> uid.UID:
    """Return the transfer syntax. Raises FrameError 422 when the header cannot be read with it."""
    syntax = uid.UID(file_meta.get("TransferSyntaxUID", ""))
    if not syntax.is_transfer_syntax or syntax.is_private:
        unknown = f"The DICOM file's transfer syntax is unknown: {syntax or 'none'}. {SUPPORTED_COMPRESSION}."
        raise FrameError(ErrorCode.TRANSFER_SYNTAX, unknown)
    return syntax


def unsupported_syntax_error(syntax: uid.UID) -> FrameError:
    """Return the error of a transfer syntax that this package does not decode."""
    message = f"The transfer syntax {syntax.name} is not supported. {SUPPORTED_COMPRESSION}."
    return FrameError(ErrorCode.TRANSFER_SYNTAX, message)


def malformed_error() -> FrameError:
    """Return the error of a file whose structure cannot be read."""
    return FrameError(ErrorCode.MALFORMED, "The DICOM file is damaged or truncated: it cannot be read.")
