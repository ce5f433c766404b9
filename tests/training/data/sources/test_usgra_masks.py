"""usgra-seg: masks with a palette label by colour where the palette is grey, else by index."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.training.data.sources.usgra_dataset import LABELS, palette_png
from training.data.source_errors import SourceError
from training.data.sources import usgra

CASES = Path(__file__).parents[3] / "cases"


def test_a_palette_of_black_and_white_labels_by_colour():
    """Index 0 is white: the nerve."""
    indices = (LABELS != 1).astype(np.uint8)
    data = palette_png(indices, [255, 255, 255, 0, 0, 0])
    labels, vessels = usgra.decode_labels(data, "masks/0001.png")
    assert np.array_equal(labels, LABELS == 1) and not vessels


def test_the_handed_palette_mask_has_its_nerve_at_index_0():
    data = (CASES / "mask_palette_index0_is_nerve.png").read_bytes()
    labels, _ = usgra.decode_labels(data, "masks/0001.png")
    white = np.asarray(Image.open(io.BytesIO(data)).convert("L")) == 255
    assert np.array_equal(labels == 1, white) and 0 < white.mean() < 0.5


def test_a_coloured_palette_without_a_black_background_is_an_error():
    with pytest.raises(SourceError, match="index 0 is not black"):
        usgra.decode_labels(palette_png(LABELS, [255, 0, 0, 0, 0, 0, 0, 0, 255]), "masks/0001.png")
