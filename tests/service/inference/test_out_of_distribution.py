"""Out-of-distribution detection: frames unlike the training frames get a note in the response."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import examples
from skimage import data

from service.decoding.dicom.dicom_cine import DicomCine
from service.decoding.frame import Frame
from service.inference.out_of_distribution import OUT_OF_DISTRIBUTION_NOTE, image_features, mahalanobis_distance
from service.inference.segmentation_result import FrameResult
from service.inference.segmenter import Segmenter
from service.model.card import OutOfDistributionStats
from training.data.sources.phantom import simulate_frame
from training.evaluation.out_of_distribution_fit import fit_stats

pytestmark = pytest.mark.slow

NOISE = np.random.default_rng(1).integers(0, 256, (420, 580), np.uint8)
NOT_ULTRASOUND = {
    "noise": NOISE,
    "photograph": data.camera(),
    "coins": data.coins(),
    "page": data.page(),
    "microscopy": data.cell(),
    "moon": data.moon(),
    "one grey": np.full((420, 580), 90, np.uint8),
}


@pytest.fixture(scope="module")
def phantom_frame() -> np.ndarray:
    return simulate_frame(1, 1, 1)[0]


@pytest.fixture(scope="module")
def phantom_stats() -> OutOfDistributionStats:
    """Statistics of sixty frames of the phantom."""
    frames = [simulate_frame(1, subject, number)[0] for subject in range(1, 31) for number in (1, 2)]
    return fit_stats(np.stack([image_features(frame) for frame in frames]))


@pytest.mark.parametrize("name", NOT_ULTRASOUND)
def test_a_picture_that_is_not_ultrasound_is_out_of_distribution(phantom_stats, name: str) -> None:
    assert mahalanobis_distance(NOT_ULTRASOUND[name], phantom_stats) > phantom_stats.limit


def test_a_heart_is_out_of_distribution(phantom_stats) -> None:
    with open(examples.get_path("ybr_color"), "rb") as file:
        cine = DicomCine(file)
        heart = cine.decode(cine.read_encoded(0), 0)
    assert heart.scan_area is not None
    assert mahalanobis_distance(heart.scan_pixels, phantom_stats) > phantom_stats.limit


def test_black_corners_of_a_sector_probe_are_a_feature(phantom_frame) -> None:
    height, width = phantom_frame.shape
    columns, rows = np.meshgrid(np.arange(width) - width / 2, np.arange(height))
    sector = np.where(np.abs(columns) < 20 + 0.8 * rows, phantom_frame, 0)
    assert image_features(sector)[-1] > 0.9 > 0.5 > image_features(phantom_frame)[-1]


def test_new_subjects_of_the_phantom_are_in_distribution(phantom_stats) -> None:
    distances = [mahalanobis_distance(simulate_frame(1, subject, 1)[0], phantom_stats) for subject in range(101, 125)]
    assert sum(distance > phantom_stats.limit for distance in distances) <= 3


def test_gain_bit_depth_and_size_hardly_change_the_features(phantom_frame) -> None:
    expected = pytest.approx(image_features(phantom_frame), abs=0.05)
    assert image_features(phantom_frame.astype(np.uint16) * 257) == expected
    assert image_features(phantom_frame // 2) == expected
    assert image_features(np.kron(phantom_frame, np.ones((2, 2), np.uint8))) == expected


def test_the_result_of_such_a_frame_has_the_note(phantom_stats, phantom_frame, card, model_folder, tmp_path) -> None:
    folder = Path(shutil.copytree(model_folder, tmp_path / "champion"))
    replace(card, out_of_distribution=phantom_stats).write(folder)
    segmenter = Segmenter(folder)
    for pixels, notes in ((NOISE, (OUT_OF_DISTRIBUTION_NOTE,)), (phantom_frame, ())):
        frame = Frame(pixels, notes=("about the frame",))
        assert FrameResult(frame, segmenter.segment(frame), 0.0).notes[: 1 + len(notes)] == ("about the frame", *notes)
        assert (OUT_OF_DISTRIBUTION_NOTE in segmenter.segment(frame).notes) is bool(notes)


def test_a_card_without_statistics_gives_no_note(segmenter: Segmenter) -> None:
    assert segmenter.segment(Frame(NOISE)).notes == ()
