"""Decompress one frame as its own codestream declares it."""

from typing import Any

from pydicom import uid
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder

from service.decoding.dicom import imagecodecs_plugin
from service.decoding.dicom.codestream_header import correct_options, read_codestream
from service.decoding.dicom.uncompressed_layout import excess_note
from service.decoding.jpeg_2000_header import complete_jpeg_2000
from service.decoding.jpeg_damage import jpeg_damage_notes
from service.decoding.pixel_range import DecodedPixels

# Where several decoders are installed and pydicom prefers a slower one. For a frame of 580x420, the faster one takes
# 0.6 ms instead of 2.7 (JPEG), and 3.4 instead of 4.9 (JPEG-LS). For lossless JPEG and RLE it takes a quarter.
FASTER_PLUGINS = {
    uid.JPEGBaseline8Bit: "pillow",
    uid.JPEGLossless: imagecodecs_plugin.LABEL,
    uid.JPEGLosslessSV1: imagecodecs_plugin.LABEL,
    uid.JPEGLSLossless: "pyjpegls",
    uid.JPEGLSNearLossless: "pyjpegls",
    uid.RLELossless: imagecodecs_plugin.LABEL,
}


imagecodecs_plugin.register()


def decompress_frame(encoded: bytes, options: dict[str, Any]) -> DecodedPixels:
    """Return the pixels of one compressed frame; colour as RGB. Runs in the decoder process.

    The codestream decides where it disagrees with the header; a note then says so. The preferred decoder is asked
    first, and all others if it fails.

    options: of `read_pixel_options`, for one frame. The result has the type and shape that pydicom's decoders give:
    (rows, columns) or (rows, columns, 3). Raises FrameError 422, and exceptions of many classes.
    """
    codestream = read_codestream(encoded)
    options, notes = correct_options(codestream, options)
    syntax = options["transfer_syntax_uid"]
    if syntax == uid.RLELossless:
        notes += _excess_notes(encoded, options)
    elif codestream.kind in ("JPEG", "lossless JPEG"):
        notes += jpeg_damage_notes(encoded)
    elif codestream.kind == "JPEG 2000":
        encoded = complete_jpeg_2000(encoded)
    decoder = get_decoder(syntax)
    encapsulated = encapsulate([encoded], has_bot=False)
    plugin = FASTER_PLUGINS.get(syntax, "")
    try:
        pixels = decoder.as_array(encapsulated, index=0, **options, decoding_plugin=plugin)[0]
    except Exception:  # each decoder has exceptions of its own
        pixels = decoder.as_array(encapsulated, index=0, **options)[0]
    return DecodedPixels(pixels, notes)


def _excess_notes(encoded: bytes, options: dict[str, Any]) -> tuple[str, ...]:
    """Return a note if RLE segments hold more bytes than the frame has pixels."""
    pixels = options["rows"] * options["columns"]
    longest = max(map(len, imagecodecs_plugin.decode_rle_segments(encoded)))
    return excess_note(longest - pixels, options) if longest > pixels + 1 else ()
