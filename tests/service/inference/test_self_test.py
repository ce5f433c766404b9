"""The self-test of a model folder, for each precision that a machine may use."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from service.errors import ModelFolderError
from service.inference.segmenter import Segmenter
from service.inference.self_test import run_self_test, write_self_test
from service.model.card import Card


@pytest.fixture
def folder(card: Card, model_folder: Path, tmp_path: Path, speckle) -> Path:
    """A model folder whose precision on CPUs is bfloat16."""
    folder = Path(shutil.copytree(model_folder, tmp_path / "champion"))
    replace(card, precision="bfloat16").write(folder)
    write_self_test(folder, np.stack([speckle(seed, 60, 80) for seed in range(3)]))
    return folder


def test_a_folder_passes_in_its_own_precision_and_in_float32(folder: Path) -> None:
    """CPUs use the card's own precision, GPUs use float32."""
    run_self_test(folder, Segmenter(folder))
    run_self_test(folder, Segmenter(folder, "float32"))


def test_each_precision_is_compared_with_its_own_masks(folder: Path) -> None:
    card, masks_file = Card.read(folder), folder / "self_test_masks.float32.npy"
    np.save(masks_file, 255 - np.load(masks_file))
    card.write(folder)
    run_self_test(folder, Segmenter(folder))
    with pytest.raises(ModelFolderError, match="fails its self-test on frame 0"):
        run_self_test(folder, Segmenter(folder, "float32"))


def test_a_precision_without_masks_is_rejected(folder: Path) -> None:
    card = Card.read(folder)
    (folder / "self_test_masks.float32.npy").unlink()
    card.write(folder)
    with pytest.raises(ModelFolderError, match="holds no self-test frames for float32"):
        run_self_test(folder, Segmenter(folder, "float32"))


def test_unreadable_frames_are_rejected(folder: Path) -> None:
    card = Card.read(folder)
    (folder / "self_test_frames.npy").write_bytes(b"no array")
    card.write(folder)
    with pytest.raises(ModelFolderError, match="cannot be read"):
        run_self_test(folder, Segmenter(folder))
