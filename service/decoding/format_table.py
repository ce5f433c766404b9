"""Which files are read, read with a note, or refused. docs/formats.md shows these tables; a test tries each row."""

from typing import Literal, NamedTuple

Support = Literal["read", "read with a note", "refused"]


class Row(NamedTuple):
    """A kind of file.

    kind: format or transfer syntax. variant: which files of that kind. remark: the note, or what to send instead.
    """

    kind: str
    variant: str
    support: Support
    remark: str = ""


PICTURES_AND_VIDEOS = (
    Row("PNG", "8 or 16 bits; grey, colour or palette", "read"),
    Row("PNG", "8 to 15 bits in 16", "read with a note", "the depth"),
    Row("PNG", "transparent parts", "read with a note", "they are black"),
    Row("PNG", "animated", "refused", "send one file for each frame, or a video"),
    Row("PNG", "1 bit", "refused", "send 8 or 16 bits"),
    Row("JPEG", "8 bits, baseline or progressive", "read"),
    Row("JPEG", "12 bits", "read"),
    Row("JPEG", "lossless", "read"),
    Row("JPEG", "EXIF Orientation 2 to 8", "read with a note", "the picture is turned upright"),
    Row("JPEG", "further pictures (MPO)", "read with a note", "the first picture is read"),
    Row("JPEG", "damaged data between its markers", "read with a note", "a part of the picture may be wrong"),
    Row("JPEG", "CMYK", "refused", "send grey or RGB"),
    Row("JPEG-LS", "8 to 16 bits", "read"),
    Row("JPEG XL", "8 or 16 bits", "read"),
    Row("JPEG XL", "animated", "refused", "send one file for each frame"),
    Row("JPEG 2000", "8 to 16 bits", "read"),
    Row("JPEG 2000", "HTJ2K", "read"),
    Row("TIFF", "8 or 16 bits; grey, colour or palette; any usual compression", "read"),
    Row("TIFF", "Zstandard", "read"),
    Row("TIFF", "Orientation 2 to 8", "read with a note", "the picture is turned upright"),
    Row("TIFF", "several pages", "read", "they are a cine; previews are left out"),
    Row("TIFF", "2, 4, 10, 12 or 14 bits", "read"),
    Row("TIFF", "a broken chain of pages", "read with a note", "the other pages are read"),
    Row("TIFF", "1 bit, 32 bits, with a sign, floating point, CMYK", "refused", "send 8 or 16 bits"),
    Row("MP4", "H.264 or MPEG-4", "read", "the frames are a cine"),
    Row("AVI", "MJPEG or MPEG-4", "read", "the frames are a cine"),
    Row("MP4 or AVI", "a rotation", "read with a note", "the frames are turned"),
    Row("MP4 or AVI", "damaged frames", "read with a note", "parts of the frames are guesses"),
    Row("AVI", "frames of several sizes", "refused", "send one video for each size"),
    Row("GIF", "", "refused", "send PNG"),
    Row("BMP", "", "refused", "send PNG"),
    Row("WebP", "", "refused", "send PNG"),
    Row("gzip", "", "refused", "send the file inside it"),
)

DICOM = (
    Row("Implicit VR Little Endian", "", "read"),
    Row("Explicit VR Little Endian", "", "read"),
    Row("Explicit VR Big Endian", "", "read"),
    Row("Deflated Explicit VR Little Endian", "", "read"),
    Row("JPEG Baseline (Process 1)", "", "read"),
    Row("JPEG Extended (Process 2 and 4)", "12 bits", "read"),
    Row("JPEG Lossless, Non-Hierarchical, First-Order Prediction (Process 14 [Selection Value 1])", "", "read"),
    Row("JPEG-LS Lossless Image Compression", "", "read"),
    Row("JPEG-LS Lossy (Near-Lossless) Image Compression", "", "read"),
    Row("JPEG 2000 Image Compression (Lossless Only)", "", "read"),
    Row("JPEG 2000 Image Compression", "", "read"),
    Row("High-Throughput JPEG 2000 Image Compression (Lossless Only)", "", "read"),
    Row("High-Throughput JPEG 2000 Image Compression", "", "read"),
    Row("RLE Lossless", "", "read"),
    Row("any", "no preamble", "read"),
    Row(
        "any",
        "a header that its pixels disprove: compression, colour, bits, sign, order of bytes, number of frames",
        "read with a note",
        "what was read",
    ),
    Row("any", "a malformed window, region or spacing", "read with a note", "the element is ignored"),
    Row("MPEG2 Main Profile / Main Level", "with its other profiles and levels", "read"),
    Row("MPEG-4 AVC/H.264 High Profile / Level 4.1", "with its other profiles and levels", "read"),
    Row("HEVC/H.265 Main Profile / Level 5.1", "with its other profiles and levels", "read"),
    Row("any", "uncompressed YBR_PARTIAL_422, HSV, ARGB or CMYK", "refused", "send RGB or YBR_FULL"),
    Row("any", "Enhanced US Volume", "refused", "export its planes as Ultrasound Image"),
    Row("any", "another modality than ultrasound", "refused"),
)
