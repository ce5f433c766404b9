"""Frames unlike the training data are told from those like it."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import examples
from skimage import data

from service import answers
from service.card import Card, Familiar
from service.dicom.cine import DicomCine
from service.familiar import UNFAMILIAR, distance, looks
from service.frame import Frame
from service.segmenter import Seen, Segmenter
from training.familiarity import familiar
from training.sources import phantom

NOISE = np.random.default_rng(1).integers(0, 256, (420, 580), np.uint8)
STRANGE = {
    "noise": NOISE,
    "photograph": data.camera(),
    "coins": data.coins(),
    "page": data.page(),
    "microscopy": data.cell(),
    "moon": data.moon(),
    "one grey": np.full((420, 580), 90, np.uint8),
}


@pytest.fixture(scope="module")
def known() -> Familiar:
    """What sixty frames of the phantom look like."""
    frames = [phantom.frame(1, subject, number)[0] for subject in range(1, 31) for number in (1, 2)]
    return familiar(np.stack([looks(frame) for frame in frames]))


@pytest.mark.parametrize("name", STRANGE)
def test_what_is_no_ultrasound_is_unfamiliar(known: Familiar, name: str) -> None:
    assert distance(STRANGE[name], known) > known.limit


def test_a_heart_is_unfamiliar(known: Familiar) -> None:
    with open(examples.get_path("ybr_color"), "rb") as file:
        cine = DicomCine(file)
        heart = cine.decode(cine.encoded_at(0), 0)
    assert heart.area is not None
    assert distance(heart.scan, known) > known.limit


def test_the_black_beside_a_sector_is_seen() -> None:
    """As the probe of a heart or a belly leaves it, whatever lies in the sector."""
    frame = phantom.frame(1, 1, 1)[0]
    height, width = frame.shape
    across, down = np.meshgrid(np.arange(width) - width / 2, np.arange(height))
    sector = np.where(np.abs(across) < 20 + 0.8 * down, frame, 0)
    assert looks(sector)[-1] > 0.9 > 0.5 > looks(frame)[-1]


def test_other_subjects_of_the_phantom_are_familiar(known: Familiar) -> None:
    warned = [distance(phantom.frame(1, subject, 1)[0], known) > known.limit for subject in range(101, 125)]
    assert sum(warned) <= 3


def test_gain_depth_and_size_do_not_change_how_a_frame_looks() -> None:
    frame = phantom.frame(1, 1, 1)[0]
    assert looks(frame.astype(np.uint16) * 257) == pytest.approx(looks(frame), abs=0.05)
    assert looks(frame // 2) == pytest.approx(looks(frame), abs=0.05)
    assert looks(np.kron(frame, np.ones((2, 2), np.uint8))) == pytest.approx(looks(frame), abs=0.05)


def test_the_answer_warns(known: Familiar, card: Card, model_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model_folder, tmp_path / "champion"))
    replace(card, familiar=known).write(folder)
    segmenter = Segmenter(folder)

    def warned(pixels: np.ndarray) -> list[str]:
        seen = Seen(Frame(pixels), segmenter.segment(Frame(pixels)), 0.0)
        assert (UNFAMILIAR in answers.headers(seen, segmenter.card)["x-warnings"]) == (
            UNFAMILIAR in answers.segment(seen, segmenter.card)["warnings"]
        )
        return answers.segment(seen, segmenter.card)["warnings"]

    assert UNFAMILIAR in warned(NOISE)
    assert UNFAMILIAR not in warned(phantom.frame(1, 1, 1)[0])


def test_a_card_that_does_not_know_what_is_familiar_says_nothing(segmenter: Segmenter) -> None:
    assert segmenter.segment(Frame(NOISE)).notes == ()
