"""A small data set with the files of usgra-seg."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.frames import disc, png

ROOT = Path(__file__).parents[4]
REAL = ROOT / ".." / "shared" / "data" / "usgra"
needs_real_data = pytest.mark.skipif(not REAL.is_dir(), reason="usgra-seg is not at ../shared/data/usgra")

HEIGHT, WIDTH = 64, 48
LABELS = np.zeros((HEIGHT, WIDTH), np.uint8)
LABELS[10:20, 10:30] = 1
LABELS[40:50, 10:15] = 2

PALETTE = (0, 0, 0, 255, 255, 0, 200, 0, 0, 0, 0, 255)


def palette_png(labels: np.ndarray, palette: Sequence[int] = PALETTE) -> bytes:
    """Return a palette PNG as in the data set: the indices are the labels, the colours are something else."""
    image = Image.fromarray(labels).convert("P")
    image.putdata(labels.ravel().tolist())
    image.putpalette(list(palette))
    return encode(image, "PNG")


def encode(image: Image.Image, file_format: str) -> bytes:
    """Return an image file of this format."""
    file = io.BytesIO()
    image.save(file, file_format)
    return file.getvalue()


def write_dataset(folder: Path, numbers: range = range(1, 13)) -> Path:
    """Write a pair for each number: a disc at its own height, and LABELS. Returns the folder."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number in numbers:
        grey = np.roll(disc(HEIGHT, WIDTH), number, axis=0)
        (folder / "images" / f"{number:04}.png").write_bytes(png(np.dstack([grey, grey, grey // 2])))
        (folder / "masks" / f"{number:04}.png").write_bytes(palette_png(LABELS))
    return folder
