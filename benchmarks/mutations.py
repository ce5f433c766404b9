"""Mutated uploads: small valid files of every supported type, changed where parsers and decoders are weak."""

import io
import random
import struct
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
from PIL import Image
from pydicom import uid

from tests.dicoms import make_compressed_ultrasound, make_ultrasound, to_bytes
from tests.frames import speckle

HEIGHT, WIDTH = 48, 64
MAX_MUTANT_BYTES = 2**16
MAX_MUTATIONS = 6
HEADER_BYTES = 512
# Lengths, counts and offsets at which integer arithmetic often fails.
EDGE_VALUES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
PNG_SIGNATURE_BYTES = 8
TRANSFER_SYNTAXES = (uid.RLELossless, uid.JPEGBaseline8Bit, uid.JPEGLSLossless, uid.JPEG2000Lossless)


@dataclass(frozen=True)
class Seed:
    """A valid file: its kind for the report, its content type, its bytes, and the routes that accept it."""

    kind: str
    content_type: str
    data: bytes
    routes: tuple[str, ...] = ("/mask", "/segment", "/overlay")


def make_seeds() -> list[Seed]:
    """Return one small file of every supported type."""
    grey = speckle(0, HEIGHT, WIDTH)
    grey16, colour = grey.astype(np.uint16) * 257, cv2.applyColorMap(grey, cv2.COLORMAP_JET)
    seeds = [Seed("PNG", "image/png", _encode_opencv(".png", pixels)) for pixels in (grey, grey16, colour)]
    seeds += [Seed("PNG", "image/png", _encode_pillow(Image.fromarray(grey).convert("P"), "PNG"))]
    seeds += [Seed("JPEG", "image/jpeg", _encode_opencv(".jpg", pixels)) for pixels in (grey, colour)]
    seeds += [Seed("JPEG", "image/jpeg", _encode_pillow(Image.fromarray(grey), "JPEG", progressive=True))]
    for compression in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "group4"):
        image = Image.fromarray(grey).convert("1" if compression == "group4" else "L")
        seeds += [Seed("TIFF", "image/tiff", _encode_pillow(image, "TIFF", compression=compression))]
    seeds += [Seed("TIFF", "image/tiff", _encode_opencv(".tif", grey16))]
    pages = _encode_pillow(Image.fromarray(grey), "TIFF", save_all=True, append_images=[Image.fromarray(255 - grey)])
    seeds += [Seed("TIFF pages", "image/tiff", pages, ("/segment", "/mask?index=1"))]
    seeds += [Seed("JPEG-LS", "image/jls", bytes(imagecodecs.jpegls_encode(grey)))]
    seeds += [Seed("JPEG XL", "image/jxl", bytes(imagecodecs.jpegxl_encode(grey)))]
    seeds += [Seed("JPEG 2000", "image/jp2", bytes(imagecodecs.jpeg2k_encode(grey)))]
    seeds += [Seed("video", "video/x-msvideo", _encode_video(grey), ("/segment", "/mask?index=1"))]
    return seeds + [_dicom_seed(syntax, grey) for syntax in (None, *TRANSFER_SYNTAXES)]


def _encode_opencv(suffix: str, pixels: np.ndarray) -> bytes:
    return bytes(cv2.imencode(suffix, pixels)[1].tobytes())


def _encode_video(grey: np.ndarray) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/video.avi"
        writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"MJPG"), 25, grey.shape[::-1])
        for frame in (grey, 255 - grey):
            writer.write(cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR))
        writer.release()
        return Path(path).read_bytes()


def _encode_pillow(image: Image.Image, image_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def _dicom_seed(syntax: uid.UID | None, grey: np.ndarray) -> Seed:
    frames = np.stack([grey, 255 - grey])
    dataset = make_compressed_ultrasound(frames, syntax) if syntax else make_ultrasound(frames)
    for number, keyword in enumerate(("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"), 1):
        setattr(dataset, keyword, f"1.2.826.0.1.3680043.8.498.{number}")  # below pydicom's root, the same in every run
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    kind = f"DICOM, {syntax.name.split(' (')[0] if syntax else 'uncompressed'}"
    return Seed(kind, "application/dicom", to_bytes(dataset), ("/mask?index=1", "/segment", "/dicom"))


def mutate(data: bytes, donor: bytes, rng: random.Random) -> bytes:
    """Return `data` after one to MAX_MUTATIONS random mutations. One of them can insert a part of `donor`.

    Half of the mutated PNG files get correct checksums again.
    """
    mutant = bytearray(data)
    for _ in range(rng.randint(1, MAX_MUTATIONS)):
        offset = rng.randrange(len(mutant)) if mutant else 0
        # Headers are short, and wrong headers do the most harm: half of the mutations go there.
        offset = rng.randrange(min(len(mutant), HEADER_BYTES)) if mutant and rng.random() < 0.5 else offset
        rng.choice(MUTATIONS)(mutant, offset, donor, rng)
    result = bytes(mutant[:MAX_MUTANT_BYTES])
    return _repair_png_checksums(result) if result.startswith(b"\x89PNG") and rng.random() < 0.5 else result


Mutation = Callable[[bytearray, int, bytes, random.Random], None]


def _flip_bit(data: bytearray, offset: int, donor: bytes, rng: random.Random) -> None:
    if data:
        data[offset] ^= 1 << rng.randrange(8)


def _overwrite(data: bytearray, offset: int, donor: bytes, rng: random.Random) -> None:
    count = rng.randint(1, 16)
    data[offset : offset + count] = rng.randbytes(count)


def _write_edge_value(data: bytearray, offset: int, donor: bytes, rng: random.Random) -> None:
    layout, count = rng.choice((("B", 1), ("<H", 2), (">H", 2), ("<I", 4), (">I", 4)))
    data[offset : offset + count] = struct.pack(layout, rng.choice(EDGE_VALUES) % 256**count)


def _delete(data: bytearray, offset: int, donor: bytes, rng: random.Random) -> None:
    del data[offset : offset + rng.randint(1, 256)]


def _truncate(data: bytearray, offset: int, donor: bytes, rng: random.Random) -> None:
    if rng.random() < 0.25:
        del data[offset:]


def _repeat(data: bytearray, offset: int, donor: bytes, rng: random.Random) -> None:
    data[offset:offset] = data[offset : offset + rng.randint(1, 256)] * rng.randint(1, 8)


def _insert_from_donor(data: bytearray, offset: int, donor: bytes, rng: random.Random) -> None:
    start = rng.randrange(len(donor))
    data[offset:offset] = donor[start : start + rng.randint(1, 512)]


MUTATIONS: tuple[Mutation, ...] = (
    _flip_bit,
    _overwrite,
    _write_edge_value,
    _write_edge_value,
    _delete,
    _truncate,
    _repeat,
    _insert_from_donor,
)


def _repair_png_checksums(data: bytes) -> bytes:
    """Return a PNG with correct chunk checksums (PNG, section 5.3). Decoders stop at a wrong checksum."""
    repaired, offset = bytearray(data), PNG_SIGNATURE_BYTES
    while offset + 12 <= len(repaired):
        length = int.from_bytes(repaired[offset : offset + 4], "big")
        end = offset + 8 + length
        if end + 4 > len(repaired):
            break
        repaired[end : end + 4] = zlib.crc32(repaired[offset + 4 : end]).to_bytes(4, "big")
        offset = end + 4
    return bytes(repaired)
