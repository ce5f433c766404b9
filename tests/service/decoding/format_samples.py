"""A sample file for each row of service/decoding/format_table.py."""

import gzip
import io
import struct
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import tifffile
from PIL import Image
from pydicom import uid
from pydicom.encaps import encapsulate

from tests.dicoms import make_compressed_ultrasound, make_ultrasound, to_bytes
from tests.frames import speckle

CASES = Path(__file__).parents[2] / "cases"
GREY = speckle(3, 96, 128)
WORDS = GREY.astype(np.uint16) * 257
THREE_FRAMES = tuple(np.roll(GREY, shift, axis=1) for shift in range(3))
ORIENTATION = 274


def pillow(pixels: np.ndarray, file_format: str, mode: str | None = None, **options: Any) -> bytes:
    file, image = io.BytesIO(), Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(file, file_format, **options)
    return file.getvalue()


def turned(file_format: str) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    return pillow(GREY, file_format, exif=exif)


def tiff(pixels: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


def video(suffix: str, codec: str, frames: Sequence[np.ndarray] = THREE_FRAMES) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/video{suffix}"
        writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*codec), 25, frames[0].shape[::-1])
        for frame in frames:
            writer.write(cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR))
        writer.release()
        return Path(path).read_bytes()


def damaged_jpeg() -> bytes:
    """Return a JPEG with bytes between its data and the marker of its end."""
    data = pillow(GREY, "JPEG")
    return data[:-2] + bytes(20) + data[-2:]


def without_last_page() -> bytes:
    """Return a TIFF of three pages whose second page has its successor behind the end of the file."""
    data = bytearray(tiff(np.stack([GREY] * 3), photometric="minisblack"))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        second, third = (file.pages.get(number).offset for number in (1, 2))
    position = data.index(struct.pack("<L", third), second)
    struct.pack_into("<L", data, position, len(data) + 1000)
    return bytes(data)


def rotated_mp4() -> bytes:
    """Return a video whose track header (ISO/IEC 14496-12 8.3.2) has the matrix of a quarter turn."""
    data = bytearray(video(".mp4", "mp4v"))
    matrix = data.index(b"tkhd") + 44
    struct.pack_into(">9l", data, matrix, 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    return bytes(data)


def damaged_mp4() -> bytes:
    data = bytearray(video(".mp4", "mp4v"))
    start = data.index(b"mdat") + 100
    data[start : start + 200] = bytes(range(200))
    return bytes(data)


def avi_of_jpegs(*frames: np.ndarray) -> bytes:
    """Return a Motion JPEG video with these frames, of any sizes."""
    chunks = b""
    for frame in frames:
        jpeg = pillow(frame, "JPEG")
        chunks += b"00dc" + struct.pack("<L", len(jpeg)) + jpeg + b"\0" * (len(jpeg) % 2)
    data = video(".avi", "MJPG")
    start = data.index(b"movi") + 4
    head = bytearray(data[:start])
    struct.pack_into("<L", head, start - 8, len(chunks) + 4)
    struct.pack_into("<L", head, 4, len(head) + len(chunks) - 8)
    return bytes(head) + chunks


def dicom_video(stream: bytes, syntax: uid.UID, **attributes: Any) -> bytes:
    """Return a DICOM file with a video of three frames."""
    dataset = make_ultrasound(np.stack([COLOUR] * 3), PhotometricInterpretation="YBR_PARTIAL_420", **attributes)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([stream])
    dataset["PixelData"].is_undefined_length = True
    dataset["PixelData"].VR = "OB"
    return to_bytes(dataset)


def uncompressed(syntax: uid.UID) -> bytes:
    dataset = make_ultrasound(GREY)
    dataset.file_meta.TransferSyntaxUID = syntax
    return to_bytes(dataset)


def compressed(syntax: uid.UID) -> bytes:
    return to_bytes(make_compressed_ultrasound(GREY[np.newaxis], syntax))


def encapsulated(codestream: bytes, syntax: uid.UID, **attributes: Any) -> bytes:
    dataset = make_ultrasound(GREY, **attributes)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([codestream])
    dataset["PixelData"].is_undefined_length = True
    dataset["PixelData"].VR = "OB"
    return to_bytes(dataset)


def case(name: str) -> bytes:
    return (CASES / name).read_bytes()


ALPHA = np.dstack([GREY, np.where(GREY > 128, 255, 0).astype(np.uint8)])
COLOUR = np.dstack([GREY] * 3)
PICTURES_AND_VIDEOS = {
    ("PNG", "8 or 16 bits; grey, colour or palette"): lambda: pillow(GREY, "PNG"),
    ("PNG", "8 to 15 bits in 16"): lambda: pillow(GREY.astype(np.uint16) * 4, "PNG"),
    ("PNG", "transparent parts"): lambda: pillow(ALPHA, "PNG"),
    ("PNG", "animated"): lambda: pillow(GREY, "PNG", save_all=True, append_images=[Image.fromarray(255 - GREY)]),
    ("PNG", "1 bit"): lambda: pillow(GREY > 127, "PNG"),
    ("JPEG", "8 bits, baseline or progressive"): lambda: pillow(GREY, "JPEG", progressive=True),
    ("JPEG", "12 bits"): lambda: case("12bit.jpg"),
    ("JPEG", "lossless"): lambda: imagecodecs.jpeg8_encode(GREY, lossless=True),
    ("JPEG", "EXIF Orientation 2 to 8"): lambda: turned("JPEG"),
    ("JPEG", "further pictures (MPO)"): lambda: case("mpo_two_pictures.jpg"),
    ("JPEG", "damaged data between its markers"): lambda: damaged_jpeg(),
    ("JPEG", "CMYK"): lambda: pillow(COLOUR, "JPEG", "CMYK"),
    ("JPEG-LS", "8 to 16 bits"): lambda: imagecodecs.jpegls_encode(GREY),
    ("JPEG XL", "8 or 16 bits"): lambda: imagecodecs.jpegxl_encode(GREY, lossless=True),
    ("JPEG XL", "animated"): lambda: imagecodecs.jpegxl_encode(np.stack([GREY, 255 - GREY]), lossless=True),
    ("JPEG 2000", "8 to 16 bits"): lambda: imagecodecs.jpeg2k_encode(GREY, reversible=True),
    ("JPEG 2000", "HTJ2K"): lambda: imagecodecs.htj2k_encode(GREY),
    ("TIFF", "8 or 16 bits; grey, colour or palette; any usual compression"): lambda: tiff(COLOUR, compression="lzw"),
    ("TIFF", "Zstandard"): lambda: tiff(GREY, compression="zstd"),
    ("TIFF", "Orientation 2 to 8"): lambda: turned("TIFF"),
    ("TIFF", "several pages"): lambda: tiff(np.stack([GREY, GREY]), photometric="minisblack"),
    ("TIFF", "2, 4, 10, 12 or 14 bits"): lambda: tiff(GREY >> 4, bitspersample=4),
    ("TIFF", "a broken chain of pages"): lambda: without_last_page(),
    ("TIFF", "1 bit, 32 bits, with a sign, floating point, CMYK"): lambda: tiff(GREY.astype(np.float32)),
    ("MP4", "H.264 or MPEG-4"): lambda: video(".mp4", "mp4v"),
    ("AVI", "MJPEG or MPEG-4"): lambda: video(".avi", "MJPG"),
    ("MP4 or AVI", "a rotation"): lambda: rotated_mp4(),
    ("MP4 or AVI", "damaged frames"): lambda: damaged_mp4(),
    ("AVI", "frames of several sizes"): lambda: avi_of_jpegs(GREY, GREY[:64, :100]),
    ("GIF", ""): lambda: pillow(GREY, "GIF"),
    ("BMP", ""): lambda: pillow(GREY, "BMP"),
    ("WebP", ""): lambda: pillow(GREY, "WEBP"),
    ("gzip", ""): lambda: gzip.compress(pillow(GREY, "PNG")),
}
FIRST_ORDER = "JPEG Lossless, Non-Hierarchical, First-Order Prediction (Process 14 [Selection Value 1])"
HTJ2K_LOSSLESS = "High-Throughput JPEG 2000 Image Compression (Lossless Only)"
DISPROVED = "a header that its pixels disprove: compression, colour, bits, sign, order of bytes, number of frames"
VIDEO = "with its other profiles and levels"
PARTIAL = "uncompressed YBR_PARTIAL_422, HSV, ARGB or CMYK"
DICOM = {
    ("Implicit VR Little Endian", ""): lambda: uncompressed(uid.ImplicitVRLittleEndian),
    ("Explicit VR Little Endian", ""): lambda: uncompressed(uid.ExplicitVRLittleEndian),
    ("Explicit VR Big Endian", ""): lambda: case("bigendian8_OW.dcm"),
    ("Deflated Explicit VR Little Endian", ""): lambda: case("deflated.dcm"),
    ("JPEG Baseline (Process 1)", ""): lambda: compressed(uid.JPEGBaseline8Bit),
    ("JPEG Extended (Process 2 and 4)", "12 bits"): lambda: case("jpeg_extended12.dcm"),
    (FIRST_ORDER, ""): lambda: encapsulated(imagecodecs.jpeg8_encode(GREY, lossless=True), uid.JPEGLosslessSV1),
    ("JPEG-LS Lossless Image Compression", ""): lambda: compressed(uid.JPEGLSLossless),
    ("JPEG-LS Lossy (Near-Lossless) Image Compression", ""): lambda: encapsulated(
        imagecodecs.jpegls_encode(GREY, level=2), uid.JPEGLSNearLossless
    ),
    ("JPEG 2000 Image Compression (Lossless Only)", ""): lambda: compressed(uid.JPEG2000Lossless),
    ("JPEG 2000 Image Compression", ""): lambda: encapsulated(
        imagecodecs.jpeg2k_encode(GREY, codecformat="J2K", level=40), uid.JPEG2000
    ),
    (HTJ2K_LOSSLESS, ""): lambda: case("htj2k.dcm"),
    ("High-Throughput JPEG 2000 Image Compression", ""): lambda: encapsulated(
        imagecodecs.htj2k_encode(GREY), uid.HTJ2K
    ),
    ("RLE Lossless", ""): lambda: compressed(uid.RLELossless),
    ("any", "no preamble"): lambda: case("no_preamble_no_meta.dcm"),
    ("any", DISPROVED): lambda: case("ybr422_label_but_full_bytes.dcm"),
    ("any", "a malformed window, region or spacing"): lambda: case("window_width_zero.dcm"),
    ("MPEG2 Main Profile / Main Level", VIDEO): lambda: dicom_video(case("video.m2v"), uid.MPEG2MPML),
    ("MPEG-4 AVC/H.264 High Profile / Level 4.1", VIDEO): lambda: dicom_video(case("video.h264"), uid.MPEG4HP41),
    ("HEVC/H.265 Main Profile / Level 5.1", VIDEO): lambda: dicom_video(case("video.hevc"), uid.HEVCMP51),
    ("any", PARTIAL): lambda: to_bytes(
        make_ultrasound(COLOUR[np.newaxis], PhotometricInterpretation="YBR_PARTIAL_422")
    ),
    ("any", "Enhanced US Volume"): lambda: case("enhanced_us_volume.dcm"),
    ("any", "another modality than ultrasound"): lambda: to_bytes(make_ultrasound(GREY, Modality="CT")),
}
