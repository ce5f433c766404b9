"""What a model folder must answer on its known frames, in whatever precision a machine computes."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from service.card import Card
from service.errors import ModelFolderError
from service.known import check_known, write_known
from service.segmenter import Segmenter


@pytest.fixture
def folder(card: Card, model_folder: Path, tmp_path: Path, speckle) -> Path:
    """A model folder that CPUs compute in bfloat16."""
    folder = Path(shutil.copytree(model_folder, tmp_path / "champion"))
    replace(card, precision="bfloat16").write(folder)
    write_known(folder, np.stack([speckle(seed, 60, 80) for seed in range(3)]))
    return folder


def test_a_folder_knows_what_each_precision_answers(folder: Path) -> None:
    """As a CPU opens it, and in float32, as a GPU computes."""
    for opened in (Segmenter(folder), Segmenter(folder, "float32")):
        check_known(folder, opened)


def test_each_is_held_against_its_own(folder: Path) -> None:
    card, masks = Card.read(folder), folder / "known_masks.float32.npy"
    np.save(masks, 255 - np.load(masks))
    card.write(folder)
    check_known(folder, Segmenter(folder))
    with pytest.raises(ModelFolderError, match="fails its self-test on known frame 0"):
        check_known(folder, Segmenter(folder, "float32"))


def test_a_precision_without_known_frames_is_refused(folder: Path) -> None:
    card = Card.read(folder)
    (folder / "known_masks.float32.npy").unlink()
    card.write(folder)
    with pytest.raises(ModelFolderError, match="carries no known frames for float32"):
        check_known(folder, Segmenter(folder, "float32"))
