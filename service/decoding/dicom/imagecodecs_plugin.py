"""A decoding plugin for pydicom that uses imagecodecs: kinds of codestreams that pydicom's own plugins do not decode.

pydicom's guide "Decoding plugins" describes the functions that a plugin has.
"""

import imagecodecs
from pydicom import uid
from pydicom.pixels import get_decoder
from pydicom.pixels.decoders.base import DecodeRunner

LABEL = "imagecodecs"
CODECS = {
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
}
DECODER_DEPENDENCIES = dict.fromkeys(CODECS, ("imagecodecs",))
COLOUR_TRANSFORMED = ("YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")  # the codecs return RGB for these


def is_available(syntax: str) -> bool:
    """Return whether this plugin decodes a transfer syntax."""
    return syntax in CODECS


def decode_frame(codestream: bytes, runner: DecodeRunner) -> bytearray:
    """Return the pixels of one frame. Raises the exceptions of imagecodecs."""
    pixels = CODECS[runner.transfer_syntax](codestream)
    runner.set_option("bits_allocated", 8 * pixels.dtype.itemsize)
    if pixels.ndim == 3:
        runner.set_option("planar_configuration", 0)
        if runner.photometric_interpretation in COLOUR_TRANSFORMED:
            runner.set_option("photometric_interpretation", "RGB")
    return bytearray(pixels.tobytes())


def register() -> None:
    """Add this plugin to pydicom's decoders. Call it once."""
    for syntax in CODECS:
        get_decoder(syntax).add_plugin(LABEL, (__name__, "decode_frame"))
