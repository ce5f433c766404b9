"""The same frame in every type of file that is read, and the files that are not."""

import io
import struct
import zlib

import cv2
import numpy as np
import tifffile
from PIL import Image


def png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


def jpeg(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", pixels)[1].tobytes()


def tiff(pixels: np.ndarray, **options: object) -> bytes:
    written = io.BytesIO()
    tifffile.imwrite(written, pixels, **options)  # type: ignore[arg-type]
    return written.getvalue()


def tiff_lzw(pixels: np.ndarray) -> bytes:
    return by_pillow(Image.fromarray(pixels), "TIFF", compression="tiff_lzw")


def by_pillow(picture: Image.Image, kind: str, **options: object) -> bytes:
    written = io.BytesIO()
    picture.save(written, kind, **options)
    return written.getvalue()


def sixteen_bits(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(np.uint16) * 257


def rgb(pixels: np.ndarray) -> np.ndarray:
    return cv2.merge([pixels] * 3)


def same_frame(pixels: np.ndarray) -> dict[str, bytes]:
    """uint8 (height, width), without loss, as each kind of file."""
    grey = Image.fromarray(pixels)
    return {
        "png": png(pixels),
        "png 16 bits": png(sixteen_bits(pixels)),
        "png rgb": png(rgb(pixels)),
        "png rgb 16 bits": png(rgb(sixteen_bits(pixels))),
        "png rgba": by_pillow(grey.convert("RGBA"), "PNG"),
        "png grey and alpha": by_pillow(grey.convert("LA"), "PNG"),
        "png palette": by_pillow(grey.convert("P"), "PNG"),
        "tiff": tiff(pixels),
        "tiff lzw": tiff_lzw(pixels),
        "tiff 16 bits": tiff(sixteen_bits(pixels)),
        "tiff 16 bits, big-endian": tiff(sixteen_bits(pixels), byteorder=">"),
        "tiff 16 bits, lzw": tiff_lzw(sixteen_bits(pixels)),
        "tiff rgb": tiff(rgb(pixels), photometric="rgb"),
        "tiff, zero is white": tiff(255 - pixels, photometric="miniswhite"),
        "tiff 16 bits, zero is white": tiff(65535 - sixteen_bits(pixels), photometric="miniswhite"),
        "tiff, tiles": tiff(pixels, tile=(64, 64)),
        "bigtiff": tiff(pixels, bigtiff=True),
    }


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header declares a vast frame."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"\0" * 64)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def refused(pixels: np.ndarray) -> dict[str, tuple[bytes, int, str]]:
    """Files that are no frames, each with the status and the code of its refusal. pixels: uint8 (height, width)."""
    grey = Image.fromarray(pixels)
    kinds = {"png": png(pixels), "jpeg": jpeg(pixels), "tiff": tiff(pixels), "tiff lzw": tiff_lzw(pixels)}
    cut = {
        f"{kind}, cut at {share:.0%}": data[: int(share * len(data))]
        for kind, data in kinds.items()
        for share in (0.2, 0.9)
    }
    damaged = bytearray(kinds["png"])
    damaged[len(damaged) // 2] ^= 0xFF
    return {
        "nothing": (b"", 400, "empty"),
        "text": (b"a frame, believe me", 415, "unknown_type"),
        "an address": (b"http://127.0.0.1/frame.png", 415, "unknown_type"),
        "gif": (by_pillow(grey, "GIF"), 415, "unknown_type"),
        "bmp": (by_pillow(grey, "BMP"), 415, "unknown_type"),
        "magic only": (b"\x89PNG\r\n\x1a\n", 400, "malformed"),
        "png, damaged": (bytes(damaged), 400, "malformed"),
        **{name: (data, 400, "malformed") for name, data in cut.items()},
        "bomb": (bomb(60_000, 60_000), 413, "too_many_pixels"),
        "above the limit": (bomb(4096, 4097), 413, "too_many_pixels"),
        "15x15": (png(pixels[:15, :15]), 422, "too_small"),
        "tiff of floats": (tiff(pixels.astype(np.float32)), 422, "pixel_type"),
        "tiff of 32 bits": (tiff(pixels.astype(np.uint32)), 422, "pixel_type"),
        "tiff of signed": (tiff(pixels.view(np.int8)), 422, "pixel_type"),
        "tiff, two pages": (tiff(np.stack([pixels, pixels]), photometric="minisblack"), 422, "several_pages"),
        "png, animated": (
            by_pillow(grey, "PNG", save_all=True, append_images=[Image.fromarray(255 - pixels)]),
            422,
            "several_pages",
        ),
        "one bit": (by_pillow(grey.convert("1"), "PNG"), 422, "pixel_type"),
        "jpeg, cmyk": (by_pillow(grey.convert("CMYK"), "JPEG"), 422, "pixel_type"),
    }
