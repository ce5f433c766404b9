"""The file formats of pictures and videos: how to recognise them. `format_table` says what is read of each."""

from enum import Enum
from typing import NamedTuple


class Format(Enum):
    """A format of pictures or videos that is read."""

    PNG = "PNG"
    JPEG = "JPEG"
    JPEG_LS = "JPEG-LS"
    JPEG_XL = "JPEG XL"
    JPEG_2000 = "JPEG 2000"
    TIFF = "TIFF"
    MP4 = "MP4"
    AVI = "AVI"


class Signature(NamedTuple):
    """Bytes at an offset of a file; `format` names what the file is. A string names a format that is not read."""

    offset: int
    magic: bytes
    format: Format | str


# The first one that matches decides.
SIGNATURES = (
    Signature(0, b"\x89PNG\r\n\x1a\n", Format.PNG),
    Signature(0, b"\xff\xd8\xff\xf7", Format.JPEG_LS),
    Signature(0, b"\xff\xd8\xff", Format.JPEG),
    Signature(0, b"II*\0", Format.TIFF),
    Signature(0, b"MM\0*", Format.TIFF),
    Signature(0, b"II+\0", Format.TIFF),  # BigTIFF
    Signature(0, b"MM\0+", Format.TIFF),
    Signature(0, b"\xff\x0a", Format.JPEG_XL),
    Signature(0, b"\0\0\0\x0cJXL \r\n\x87\n", Format.JPEG_XL),
    Signature(0, b"\xff\x4f\xff\x51", Format.JPEG_2000),
    Signature(0, b"\0\0\0\x0cjP  \r\n\x87\n", Format.JPEG_2000),
    Signature(4, b"ftypheic", "a HEIC picture"),
    Signature(4, b"ftypheix", "a HEIC picture"),
    Signature(4, b"ftypmif1", "a HEIF picture"),
    Signature(4, b"ftypavif", "an AVIF picture"),
    Signature(4, b"ftyp", Format.MP4),
    Signature(8, b"AVI ", Format.AVI),
    Signature(8, b"WEBP", "a WebP picture"),
    Signature(0, b"GIF8", "a GIF picture"),
    Signature(0, b"BM", "a BMP picture"),
    Signature(0, b"\x1a\x45\xdf\xa3", "a Matroska or WebM video"),
    Signature(0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "a Windows Media video"),
    Signature(0, b"\0\0\x01\xba", "an MPEG video"),
    Signature(0, b"\0\0\x01\xb3", "an MPEG video"),
    Signature(0, b"%PDF", "a PDF document"),
    Signature(0, b"PK\x03\x04", "a ZIP archive"),
    Signature(0, b"\x1f\x8b", "a gzip file"),
    Signature(0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    Signature(0, b"\x28\xb5\x2f\xfd", "a Zstandard file"),
    Signature(0, b"NRRD", "an NRRD file"),
    Signature(0, b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    Signature(344, b"n+1\0", "a NIfTI file"),
)
REMEDIES = {"picture": "Send it as PNG", "video": "Send it as MP4 or AVI", "archive": "Send the files inside it"}
DEFAULT_REMEDY = "Send PNG, JPEG, TIFF, DICOM, MP4 or AVI"
PICTURES = (Format.PNG, Format.JPEG, Format.JPEG_LS, Format.JPEG_XL, Format.JPEG_2000, Format.TIFF)
VIDEOS = (Format.MP4, Format.AVI)


def detect_format(data: bytes) -> Format | str | None:
    """Return the format of a file; the name of one that is not read; None if the signature is unknown."""
    for signature in SIGNATURES:
        if data[signature.offset : signature.offset + len(signature.magic)] == signature.magic:
            return signature.format
    return None


def remedy(name: str) -> str:
    """Return what to send instead of a format that is not read."""
    return REMEDIES.get(name.rpartition(" ")[2], DEFAULT_REMEDY)
