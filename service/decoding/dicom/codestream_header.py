"""What a compressed frame declares about itself. It knows better than the header of the file."""

import struct
from typing import Any, NamedTuple

from pydicom import uid

from service.decoding.jpeg_2000_header import START_OF_CODESTREAM_AND_SIZE, read_jpeg_2000_header
from service.decoding.jpeg_header import JPEG_LOSSLESS, JPEG_LS, read_jpeg_header
from service.errors import ErrorCode, FrameError

START_OF_IMAGE = b"\xff\xd8"  # of JPEG and JPEG-LS
# Samples and bits by the number of RLE segments: each segment holds one byte of one sample (PS3.5 G.2).
RLE_SEGMENTS = {1: (1, 8), 2: (1, 16), 3: (3, 8), 6: (3, 16)}
MAX_BITS = 16


class Codestream(NamedTuple):
    """What a compressed frame declares.

    kind: the compression, for people. syntax: a transfer syntax whose decoders read it.
    size: rows and columns; None: RLE does not declare them.
    samples, bits: samples of a pixel, and bits of a sample.
    interpretation: Photometric Interpretation of three samples; None: unknown.
    """

    kind: str
    syntax: uid.UID
    size: tuple[int, int] | None
    samples: int
    bits: int
    interpretation: str | None = None


class CorrectedOptions(NamedTuple):
    """Options of pydicom's decoders that fit a codestream, and notes on what the header got wrong."""

    options: dict[str, Any]
    notes: tuple[str, ...]


def read_codestream(encoded: bytes) -> Codestream:
    """Return what a frame declares. Raises exceptions of many classes for a damaged or truncated frame."""
    if encoded.startswith(START_OF_IMAGE):
        return _read_jpeg(encoded)
    return _read_jpeg_2000(encoded) if START_OF_CODESTREAM_AND_SIZE in encoded else _read_rle(encoded)


def _read_jpeg(encoded: bytes) -> Codestream:
    header = read_jpeg_header(encoded)
    if not header.is_complete:  # some decoders would fill the rest with grey
        raise ValueError("the codestream is truncated")
    if header.frame_marker == JPEG_LS:
        kind, syntax = "JPEG-LS", uid.JPEGLSLossless
    elif header.frame_marker in JPEG_LOSSLESS:
        kind, syntax = "lossless JPEG", uid.JPEGLosslessSV1
    else:
        kind, syntax = "JPEG", uid.JPEGBaseline8Bit if header.precision == 8 else uid.JPEGExtended12Bit
    interpretation = {"YCbCr": "YBR_FULL", "RGB": "RGB", None: None}[header.colour_space]
    size = header.rows, header.columns
    return Codestream(kind, syntax, size, len(header.component_ids), header.precision, interpretation)


def _read_jpeg_2000(encoded: bytes) -> Codestream:
    header = read_jpeg_2000_header(encoded)
    return Codestream(
        "JPEG 2000",
        uid.HTJ2KLossless if header.is_high_throughput else uid.JPEG2000Lossless,
        (header.rows, header.columns),
        header.samples,
        header.bits,
        "YBR_RCT" if header.is_transformed else None,  # the decoders return RGB
    )


def _read_rle(encoded: bytes) -> Codestream:
    (segments,) = struct.unpack_from("<L", encoded)
    samples, bits = RLE_SEGMENTS[segments]
    return Codestream("RLE", uid.RLELossless, None, samples, bits)


def check_codestream_size(encoded: bytes, options: dict[str, Any]) -> None:
    """Raise FrameError 400 if a compressed frame declares another size than the file: a decoder would trust it.

    Raises exceptions of many classes for a damaged or truncated frame.
    """
    size = read_codestream(encoded).size
    if size not in (None, (options["rows"], options["columns"])):
        message = f"A compressed frame has another size ({size}) than the file declares."
        raise FrameError(ErrorCode.MALFORMED, message)


def correct_options(codestream: Codestream, options: dict[str, Any]) -> CorrectedOptions:
    """Return options that fit the codestream, and a note for each that the header got wrong. Raises FrameError 422.

    options: of `read_pixel_options`.
    """
    if codestream.samples not in (1, 3) or codestream.bits > MAX_BITS:
        message = f"A compressed frame has {codestream.samples} samples of {codestream.bits} bits. Send grey or RGB."
        raise FrameError(ErrorCode.PIXEL_TYPE, message)
    interpretation, notes = _true_interpretation(codestream, options)
    declared_syntax = options["transfer_syntax_uid"]
    syntax = codestream.syntax
    if _kind_of(declared_syntax) == codestream.kind:
        syntax = declared_syntax
    else:
        notes += (f"the header says {declared_syntax.name}, but the frame is {codestream.kind}: it was read as that",)
    bits_allocated = 8 if codestream.bits <= 8 else 16
    corrected = {
        "transfer_syntax_uid": syntax,
        "samples_per_pixel": codestream.samples,
        "photometric_interpretation": interpretation,
        "planar_configuration": 0,
        "bits_allocated": bits_allocated,
        "bits_stored": min(max(options["bits_stored"], codestream.bits), bits_allocated),
    }
    return CorrectedOptions({**options, **corrected}, notes)


def _kind_of(syntax: uid.UID) -> str:
    """Return `Codestream.kind` of what a transfer syntax holds."""
    if syntax in (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit):
        return "JPEG"
    if syntax in (uid.JPEGLossless, uid.JPEGLosslessSV1):
        return "lossless JPEG"
    if syntax in uid.JPEGLSTransferSyntaxes:
        return "JPEG-LS"
    return "RLE" if syntax == uid.RLELossless else "JPEG 2000"


def _true_interpretation(codestream: Codestream, options: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    """Return the Photometric Interpretation of the codestream, and a note if the header has another one."""
    declared: str = options["photometric_interpretation"]
    is_grey = declared.startswith(("MONOCHROME", "PALETTE"))
    if codestream.samples == 1:
        true = declared if is_grey else "MONOCHROME2"
    elif codestream.interpretation or codestream.kind == "JPEG":
        true = codestream.interpretation or _without_marker(declared)
    else:
        true = "RGB" if is_grey else declared
    if true == declared or (codestream.samples == 3 and not is_grey and _is_same_colour(declared, true)):
        return declared, ()
    note = f"the header says {declared}, but the compressed frame holds {true}: it was read as {true}"
    return true, (note,)


def _without_marker(declared: str) -> str:
    """Return the colours of a JPEG that does not say which it has: the header's, or by custom YCbCr."""
    return declared if declared in ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT") else "YBR_FULL"


def _is_same_colour(declared: str, true: str) -> bool:
    if true == "YBR_RCT":  # an encoder that transforms RGB itself may keep the name RGB
        return declared in ("YBR_RCT", "YBR_ICT", "RGB")
    return declared.startswith("YBR_FULL") == (true == "YBR_FULL")
