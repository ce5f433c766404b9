"""Decompress one frame, after a check of what its own codestream declares."""

import struct
from typing import Any

from pydicom import uid
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder

from service.decoding.dicom import imagecodecs_plugin
from service.decoding.jpeg_header import read_jpeg_header
from service.decoding.pixel_range import DecodedPixels
from service.errors import ErrorCode, FrameError

# Where several decoders are installed and pydicom prefers a slower one. For a frame of 580x420, the faster one takes
# 0.6 ms instead of 2.7 (JPEG), 3.4 instead of 4.9 (JPEG-LS), and 0.2 instead of 0.8 (RLE).
FASTER_PLUGINS = {
    uid.JPEGBaseline8Bit: "pillow",
    uid.JPEGLSLossless: "pyjpegls",
    uid.JPEGLSNearLossless: "pyjpegls",
    uid.RLELossless: "pylibjpeg",
}
HTJ2K_SYNTAXES = (uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K)
START_OF_CODESTREAM_AND_SIZE = b"\xff\x4f\xff\x51"  # SOC and SIZ of JPEG 2000 (ISO/IEC 15444-1 A.5.1)
CODING_STYLE = b"\xff\x52"  # COD (A.6.1); its eighth byte after the length is the multiple component transformation


imagecodecs_plugin.register()


def decompress_frame(encoded: bytes, options: dict[str, Any]) -> DecodedPixels:
    """Return the pixels of one compressed frame; colour as RGB. Runs in the decoder process.

    The codestream decides about colour where it disagrees with the header; a note then says so. The preferred decoder
    is asked first, and all others if it fails.

    options: of `read_pixel_options`, for one frame. The result has the type and shape that pydicom's decoders give:
    (rows, columns) or (rows, columns, 3). Raises exceptions of many classes.
    """
    interpretation, notes = _true_interpretation(encoded, options)
    options = {**options, "photometric_interpretation": interpretation}
    decoder = get_decoder(options["transfer_syntax_uid"])
    encapsulated = encapsulate([encoded], has_bot=False)
    plugin = FASTER_PLUGINS.get(options["transfer_syntax_uid"], "")
    try:
        pixels = decoder.as_array(encapsulated, index=0, **options, decoding_plugin=plugin)[0]
    except Exception:  # each decoder has exceptions of its own
        pixels = decoder.as_array(encapsulated, index=0, **options)[0]
    return DecodedPixels(pixels, notes)


def _true_interpretation(encoded: bytes, options: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    """Return the Photometric Interpretation of the codestream, and a note if the header has another one."""
    declared: str = options["photometric_interpretation"]
    if options["samples_per_pixel"] != 3:
        return declared, ()
    syntax = options["transfer_syntax_uid"]
    true: str | None = None
    if syntax in (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit):
        true = {"YCbCr": "YBR_FULL", "RGB": "RGB", None: None}[read_jpeg_header(encoded).colour_space]
    elif syntax in uid.JPEG2000TransferSyntaxes or syntax in HTJ2K_SYNTAXES:
        true = "YBR_RCT" if _has_component_transform(encoded) else None  # the decoder then returns RGB
    if true is None or _is_same_colour(declared, true):
        return declared, ()
    note = f"the header says {declared}, but the compressed frame holds {true}: it was read as {true}"
    return true, (note,)


def _is_same_colour(declared: str, true: str) -> bool:
    if true == "YBR_RCT":  # an encoder that transforms RGB itself may keep the name RGB
        return declared in ("YBR_RCT", "YBR_ICT", "RGB")
    return declared.startswith("YBR_FULL") == (true == "YBR_FULL")


def _has_component_transform(encoded: bytes) -> bool:
    start = encoded.find(CODING_STYLE, encoded.find(START_OF_CODESTREAM_AND_SIZE) + 4)
    return start >= 0 and encoded[start + 8] == 1


def check_codestream_size(encoded: bytes, options: dict[str, Any]) -> None:
    """Raise FrameError 400 if a compressed frame declares another size than the file: a decoder would trust it.

    Raises exceptions of many classes for a damaged or truncated frame.
    """
    size = _read_codestream_size(encoded, options["transfer_syntax_uid"])
    if size not in (None, (options["rows"], options["columns"])):
        message = f"A compressed frame has another size ({size}) than the file declares."
        raise FrameError(ErrorCode.MALFORMED, message)


def _read_codestream_size(encoded: bytes, syntax: uid.UID) -> tuple[int, int] | None:
    """Return the rows and columns that a JPEG, JPEG-LS or JPEG 2000 codestream declares; None for RLE: it has none."""
    if syntax == uid.RLELossless:
        return None
    if syntax in uid.JPEG2000TransferSyntaxes or syntax in HTJ2K_SYNTAXES:
        start = encoded.find(START_OF_CODESTREAM_AND_SIZE)
        right, bottom, left, top = struct.unpack_from(">LLLL", encoded, start + 8)
        return bottom - top, right - left
    header = read_jpeg_header(encoded)
    if not header.is_complete:  # some decoders would fill the rest with grey
        raise ValueError("the codestream is truncated")
    return header.rows, header.columns
