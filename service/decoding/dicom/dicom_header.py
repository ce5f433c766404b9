"""Read the header of a DICOM file: every element before the pixels, with bounds on the work and memory it takes."""

from typing import IO, Any

from pydicom import Dataset, uid
from pydicom.dataset import FileMetaDataset
from pydicom.filereader import read_dataset

from service.errors import ErrorCode, FrameError

PREAMBLE_BYTES = 132  # with the four letters DICM (PS3.10 7.1)
MAX_READS = 50_000  # of header elements and their parts; a hostile header holds millions
# Bytes of the header that are read. pydicom parses its sequences later; they then take a hundred times their size.
MAX_HEADER_BYTES = 2 * 1024 * 1024
# Longer values are skipped: scanners keep private raw data in them. The longest lookup table takes half of this.
MAX_VALUE_BYTES = 256 * 1024

FILE_META_GROUP = 2
FLOAT_PIXEL_DATA, DOUBLE_FLOAT_PIXEL_DATA, PIXEL_DATA = 0x7FE00008, 0x7FE00009, 0x7FE00010
PIXEL_TAGS = (FLOAT_PIXEL_DATA, DOUBLE_FLOAT_PIXEL_DATA, PIXEL_DATA)
SUPPORTED_COMPRESSION = "Send it uncompressed, or as RLE, JPEG, JPEG-LS or JPEG 2000"


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


def read_header(file: IO[bytes]) -> Dataset:
    """Return all elements before the pixels, without values over MAX_VALUE_BYTES. Leave `file` at the pixels' element.

    Raises FrameError (413, 422), and any exception of pydicom over a damaged file.
    """
    file.seek(PREAMBLE_BYTES)
    bounded_file: Any = _BoundedFile(file)
    file_meta = read_dataset(bounded_file, False, True, stop_when=lambda tag, *_: tag >> 16 != FILE_META_GROUP)
    syntax = _check_transfer_syntax(file_meta)
    header = read_dataset(
        bounded_file,
        syntax.is_implicit_VR,
        syntax.is_little_endian,
        stop_when=lambda tag, *_: tag in PIXEL_TAGS,
        defer_size=MAX_VALUE_BYTES,
    )
    header.file_meta = FileMetaDataset(file_meta)
    return header


def _check_transfer_syntax(file_meta: Dataset) -> uid.UID:
    """Return the transfer syntax. Raises FrameError 422 when the header cannot be read with it."""
    syntax = uid.UID(file_meta.get("TransferSyntaxUID", ""))
    if not syntax.is_transfer_syntax or syntax.is_private:
        unknown = f"The DICOM file's transfer syntax is unknown: {syntax or 'none'}. {SUPPORTED_COMPRESSION}."
        raise FrameError(ErrorCode.TRANSFER_SYNTAX, unknown)
    if syntax.is_deflated:  # a few kilobytes may inflate to gigabytes
        raise unsupported_transfer_syntax(syntax)
    return syntax


def unsupported_transfer_syntax(syntax: uid.UID) -> FrameError:
    """Return the error of a transfer syntax that this package does not decode."""
    message = f"The transfer syntax {syntax.name} is not supported. {SUPPORTED_COMPRESSION}."
    return FrameError(ErrorCode.TRANSFER_SYNTAX, message)


def malformed_error() -> FrameError:
    """Return the error of a file whose structure cannot be read."""
    return FrameError(ErrorCode.MALFORMED, "The DICOM file is damaged or cut short: it cannot be read.")
