"""Hard subjects and console styles: they differ from the easy phantom as they should, and leave it as it is."""

from dataclasses import replace
from hashlib import sha256

import numpy as np
import pandas as pd
import pytest

from training.data.frame_mask_pair import NERVE, VESSEL
from training.data.sources.phantom import PhantomKind, _subject, simulate_frame, simulate_pairs
from training.data.sources.phantom.consoles import CONSOLES
from training.data.sources.phantom.probe import build_medium, draw_pose, imaging_plane
from training.data.sources.phantom.structures import Bone, FatPad
from training.evaluation.nerve_contrast import measure_contrast
from training.workspace.nerve_parameters import Phantom

pytestmark = pytest.mark.slow

HARD = PhantomKind("hard")
SUBJECTS, FRAMES = 24, 3
# Of the frames of the easy phantom, which the demo and the self-test of every model use.
EASY_DIGEST = "8925e9c720abde90aaa2d459e909cbbcd9f256ef67e770e04c6f8bfd9e3bba17"


@pytest.fixture(scope="module")
def hard_frames() -> list[tuple[np.ndarray, np.ndarray]]:
    frames = [simulate_frame(1, subject, n, HARD) for subject in range(1, SUBJECTS + 1) for n in range(1, FRAMES + 1)]
    return [(pixels, labels) for pixels, labels in frames if (labels == NERVE).sum() > 50]


def test_the_easy_phantom_is_as_it_was() -> None:
    digest = sha256()
    for subject in (1, 2, 3):
        for number in (1, 2):
            for array in simulate_frame(1, subject, number):
                digest.update(array.tobytes())
    assert digest.hexdigest() == EASY_DIGEST


def test_nerves_are_as_hard_to_see_as_real_ones(hard_frames) -> None:
    """usgra-seg: contrast to noise 0.50 (-0.01 to 1.02), overlap 0.67, area share 0.026 (0.009 to 0.065).

    These are the median and the 10 and 90 % quantiles that `training.evaluation.nerve_contrast` prints.
    """
    frames = pd.DataFrame([measure_contrast(pixels, labels == NERVE) for pixels, labels in hard_frames])
    contrast = frames["contrast_to_noise"]
    assert 0.1 < contrast.median() < 0.7
    assert contrast.quantile(0.9) - contrast.quantile(0.1) > 0.9
    assert 0.55 < frames["overlap"].median() < 0.8
    assert frames["area_share"].quantile(0.9) > 3 * frames["area_share"].quantile(0.1)
    assert 0.1 < (frames["nerves"] > 1).mean() < 0.45
    assert np.mean([(labels == VESSEL).any() for _, labels in hard_frames]) > 0.8


def test_structures_do_not_lie_on_nerves() -> None:
    for number in range(1, 30):
        subject = _subject(1, number, HARD)
        nerves = [subject.nerve, *subject.further_nerves]
        for structure in subject.other_structures:
            if not isinstance(structure, FatPad | Bone):
                assert all(structure.outline.is_apart(nerve.outline) for nerve in nerves)


def test_a_nerve_darkens_as_the_probe_tilts() -> None:
    subject = next(_subject(1, number, HARD) for number in range(1, 30))
    pose = replace(draw_pose(subject, True, np.random.default_rng(1)), beam_angle=0.0)
    upright, tilted = (
        build_medium(subject, imaging_plane(subject, replace(pose, beam_angle=angle)), with_nerve=True)
        for angle in (0.0, 0.2)
    )
    nerve = upright.labels == NERVE
    assert np.array_equal(upright.labels, tilted.labels)
    assert (tilted.backscatter_db[nerve] < upright.backscatter_db[nerve] - 2).all()


def test_the_parameters_name_the_console_styles() -> None:
    phantom = {"subjects": 1, "frames": 1, "seed": 1, "difficulty": "hard"}
    for name in CONSOLES:
        assert Phantom(**phantom, consoles=[name]).consoles == [name]
    with pytest.raises(ValueError, match="consoles"):
        Phantom(**phantom, consoles=["other"])


def test_console_styles_show_the_same_tissue_in_another_way() -> None:
    frames = {name: simulate_frame(1, 3, 1, PhantomKind("easy", (name,))) for name in CONSOLES}
    pixels, labels = frames["standard"]
    for name, (other_pixels, other_labels) in frames.items():
        assert np.array_equal(labels, other_labels), name
        assert np.array_equal(pixels, other_pixels) == (name == "standard"), name
    roughness = {name: np.abs(np.diff(pixels.astype(int), axis=1)).mean() for name, (pixels, _) in frames.items()}
    assert roughness["cart"] < roughness["standard"] / 2  # speckle reduction


def test_each_subject_has_one_of_the_consoles() -> None:
    kind = PhantomKind("easy", ("standard", "portable"))
    scanners = [_subject(1, number, kind).scanner for number in range(1, 21)]
    assert {scanner.frequency_mhz < 7.5 for scanner in scanners} == {True, False}
    first, second = (list(simulate_pairs(2, 2, 1, kind)) for _ in range(2))
    assert [pair.frame_file for pair in first] == [pair.frame_file for pair in second]
