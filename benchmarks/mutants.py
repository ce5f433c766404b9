"""Hostile uploads: small files of every kind that is read, spoilt in the ways that parsers and decoders fear."""

import io
import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image
from pydicom import uid

from tests.dicoms import compressed, ultrasound, written
from tests.frames import speckle

HEIGHT, WIDTH = 48, 64
MOST_BYTES = 2**16  # of a mutant
# Lengths, counts and offsets at which arithmetic breaks.
EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
PNG_HEAD_BYTES = 8


@dataclass(frozen=True)
class Seed:
    """A sound file: its kind, the type it is sent as, the routes that take it."""

    kind: str
    type: str
    data: bytes
    routes: tuple[str, ...] = ("/mask", "/segment", "/overlay")


def seeds() -> list[Seed]:
    """Every kind that is read, of one frame."""
    grey = speckle(0, HEIGHT, WIDTH)
    deep, colour = grey.astype(np.uint16) * 257, cv2.applyColorMap(grey, cv2.COLORMAP_JET)
    made = [Seed("PNG", "image/png", _opencv(".png", pixels)) for pixels in (grey, deep, colour)]
    made += [Seed("PNG", "image/png", _pillow(Image.fromarray(grey).convert("P"), "PNG"))]
    made += [Seed("JPEG", "image/jpeg", _opencv(".jpg", pixels)) for pixels in (grey, colour)]
    made += [Seed("JPEG", "image/jpeg", _pillow(Image.fromarray(grey), "JPEG", progressive=True))]
    for compression in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "group4"):
        picture = Image.fromarray(grey).convert("1" if compression == "group4" else "L")
        made += [Seed("TIFF", "image/tiff", _pillow(picture, "TIFF", compression=compression))]
    made += [Seed("TIFF", "image/tiff", _opencv(".tif", deep))]
    return made + [_dicom(syntax, grey) for syntax in (None, *SYNTAXES)]


def _opencv(kind: str, pixels: np.ndarray) -> bytes:
    return bytes(cv2.imencode(kind, pixels)[1].tobytes())


def _pillow(picture: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


SYNTAXES = (uid.RLELossless, uid.JPEGBaseline8Bit, uid.JPEGLSLossless, uid.JPEG2000Lossless)


def _dicom(syntax: uid.UID | None, grey: np.ndarray) -> Seed:
    cine = np.stack([grey, 255 - grey])
    made = compressed(cine, syntax) if syntax else ultrasound(cine)
    for number, keyword in enumerate(("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"), 1):
        setattr(made, keyword, f"1.2.826.0.1.3680043.8.498.{number}")  # pydicom's root; the same in every run
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    kind = f"DICOM, {syntax.name.split(' (')[0] if syntax else 'uncompressed'}"
    return Seed(kind, "application/dicom", written(made), ("/mask?index=1", "/segment", "/dicom"))


def mutant(data: bytes, other: bytes, chance: random.Random) -> bytes:
    """`data`, spoilt at one to six places, perhaps with a part of `other`; of a PNG, every second keeps its sums."""
    spoilt = bytearray(data)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(spoilt)) if spoilt else 0
        # Headers are short, and what they lie about matters most.
        at = chance.randrange(min(len(spoilt), 512)) if spoilt and chance.random() < 0.5 else at
        chance.choice(WAYS)(spoilt, at, other, chance)
    mended = bytes(spoilt[:MOST_BYTES])
    return _with_sums(mended) if mended.startswith(b"\x89PNG") and chance.random() < 0.5 else mended


Way = Callable[[bytearray, int, bytes, random.Random], None]


def _flip(data: bytearray, at: int, other: bytes, chance: random.Random) -> None:
    if data:
        data[at] ^= 1 << chance.randrange(8)


def _overwrite(data: bytearray, at: int, other: bytes, chance: random.Random) -> None:
    count = chance.randint(1, 16)
    data[at : at + count] = chance.randbytes(count)


def _edge(data: bytearray, at: int, other: bytes, chance: random.Random) -> None:
    form, count = chance.choice((("B", 1), ("<H", 2), (">H", 2), ("<I", 4), (">I", 4)))
    data[at : at + count] = struct.pack(form, chance.choice(EDGES) % 256**count)


def _cut(data: bytearray, at: int, other: bytes, chance: random.Random) -> None:
    del data[at : at + chance.randint(1, 256)]


def _end(data: bytearray, at: int, other: bytes, chance: random.Random) -> None:
    if chance.random() < 0.25:
        del data[at:]


def _repeat(data: bytearray, at: int, other: bytes, chance: random.Random) -> None:
    data[at:at] = data[at : at + chance.randint(1, 256)] * chance.randint(1, 8)


def _graft(data: bytearray, at: int, other: bytes, chance: random.Random) -> None:
    start = chance.randrange(len(other))
    data[at:at] = other[start : start + chance.randint(1, 512)]


WAYS: tuple[Way, ...] = (_flip, _overwrite, _edge, _edge, _cut, _end, _repeat, _graft)


def _with_sums(data: bytes) -> bytes:
    """A PNG whose chunks have the sums they should (PNG, section 5.3): without them, nothing behind is looked at."""
    mended, at = bytearray(data), PNG_HEAD_BYTES
    while at + 12 <= len(mended):
        length = int.from_bytes(mended[at : at + 4], "big")
        end = at + 8 + length
        if end + 4 > len(mended):
            break
        mended[end : end + 4] = zlib.crc32(mended[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(mended)
