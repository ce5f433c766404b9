"""A decoding plugin for pydicom that uses imagecodecs: kinds of codestreams that pydicom's own plugins do not decode.

pydicom's guide "Decoding plugins" describes the functions that a plugin has.
"""

import struct
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
from pydicom import uid
from pydicom.pixels import get_decoder
from pydicom.pixels.decoders.base import DecodeRunner

LABEL = "imagecodecs"
CODECS: dict[uid.UID, Callable[..., Any]] = {
    uid.JPEGBaseline8Bit: imagecodecs.jpeg_decode,
    uid.JPEGExtended12Bit: imagecodecs.jpeg_decode,
    uid.JPEGLossless: imagecodecs.jpeg_decode,
    uid.JPEGLosslessSV1: imagecodecs.jpeg_decode,
    uid.JPEGLSLossless: imagecodecs.jpegls_decode,
    uid.JPEGLSNearLossless: imagecodecs.jpegls_decode,
    uid.JPEG2000Lossless: imagecodecs.jpeg2k_decode,
    uid.JPEG2000: imagecodecs.jpeg2k_decode,
    uid.HTJ2KLossless: imagecodecs.jpeg2k_decode,
    uid.HTJ2KLosslessRPCL: imagecodecs.jpeg2k_decode,
    uid.HTJ2K: imagecodecs.jpeg2k_decode,
    uid.RLELossless: imagecodecs.packbits_decode,
}
RLE_HEADER = struct.Struct("<16L")  # the number of segments, and where each begins (PS3.5 G.5)
DECODER_DEPENDENCIES = dict.fromkeys(CODECS, ("imagecodecs",))
# The codecs return RGB for these colours. For all others they return what the codestream holds.
LOSSY_JPEG_COLOURS, JPEG_2000_COLOURS = ("YBR_FULL", "YBR_FULL_422"), ("YBR_ICT", "YBR_RCT")


def is_available(syntax: str) -> bool:
    """Return whether this plugin decodes a transfer syntax."""
    return syntax in CODECS


def decode_frame(codestream: bytes, runner: DecodeRunner) -> bytearray:
    """Return the pixels of one frame.

    Raises ValueError for RLE segments that are too short, and the exceptions of imagecodecs.
    """
    if runner.transfer_syntax == uid.RLELossless:
        return _decode_rle_frame(codestream, runner)
    pixels = CODECS[runner.transfer_syntax](codestream)
    runner.set_option("bits_allocated", 8 * pixels.dtype.itemsize)
    if pixels.ndim == 3:
        runner.set_option("planar_configuration", 0)
        codec, interpretation = CODECS[runner.transfer_syntax], runner.photometric_interpretation
        is_lossy_jpeg = runner.transfer_syntax in (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit)
        is_transformed = is_lossy_jpeg and interpretation in LOSSY_JPEG_COLOURS
        if is_transformed or (codec is imagecodecs.jpeg2k_decode and interpretation in JPEG_2000_COLOURS):
            runner.set_option("photometric_interpretation", "RGB")
    return bytearray(pixels.tobytes())


def _decode_rle_frame(codestream: bytes, runner: DecodeRunner) -> bytearray:
    """Return the planes of one frame. Each RLE segment holds one byte of a sample, the highest first (PS3.5 G.2)."""
    pixels = runner.rows * runner.columns
    segments = [np.frombuffer(segment, np.uint8)[:pixels] for segment in decode_rle_segments(codestream)]
    if any(len(segment) < pixels for segment in segments):
        raise ValueError("an RLE segment is too short")
    runner.set_option("planar_configuration", 1)
    samples = np.stack(segments).reshape(runner.samples_per_pixel, runner.bits_allocated // 8, pixels)
    return bytearray(samples[:, ::-1].transpose(0, 2, 1).tobytes())


def decode_rle_segments(codestream: bytes) -> list[bytes | bytearray]:
    """Return the bytes of each segment. Raises struct.error or the exceptions of imagecodecs for a damaged frame."""
    count, *starts = RLE_HEADER.unpack_from(codestream)
    ends = [*starts[1:count], len(codestream)]
    return [imagecodecs.packbits_decode(codestream[start:end]) for start, end in zip(starts[:count], ends, strict=True)]


def register() -> None:
    """Add this plugin to pydicom's decoders. Call it once."""
    for syntax in CODECS:
        get_decoder(syntax).add_plugin(LABEL, (__name__, "decode_frame"))
    get_decoder(uid.RLELossless).remove_plugin("pylibjpeg")  # a damaged frame ends its process
