"""The phantom: its speckle, beam, shadows and enhancement are measured, not only looked at."""

from dataclasses import replace
from itertools import islice

import cv2
import numpy as np
import pytest

from training.data.frame_mask_pair import NERVE, VESSEL
from training.data.sources import phantom
from training.data.sources.phantom.bmode_simulation import (
    Medium,
    Scanner,
    apply_point_spread,
    detect_envelope,
    log_compress,
)
from training.data.sources.phantom.structures import Bone, Nerve, Outline, Plane, Vessel

pytestmark = pytest.mark.slow

SCANNER = Scanner(
    spacing_mm=0.08,
    frequency_mhz=10,
    f_number=2,
    focus_mm=8,
    compounding_angles=1,
    gain_db=0,
    dynamic_range_db=60,
    grey_map_exponent=1,
    tgc=1,
    noise_db=-200,
)

Frames = list[list[tuple[np.ndarray, np.ndarray]]]


@pytest.fixture(scope="module")
def subjects() -> Frames:
    """Pixels and labels of four frames of each of 16 subjects."""
    return [[phantom.simulate_frame(5, subject, number) for number in range(1, 5)] for subject in range(1, 17)]


def image_structure(structure: Bone | Nerve | Vessel) -> tuple[np.ndarray, Medium]:
    """Return the envelope in dB, 420 x 580, of one structure in homogeneous tissue of -30 dB, and the medium."""
    medium = Medium.uniform(420, 580, -30)
    x, z = np.meshgrid((np.arange(580) - 290) * 0.08, np.arange(420) * 0.08)
    structure.paint(medium, Plane(x.astype(np.float32), z.astype(np.float32), 0.0))
    amplitude = detect_envelope(medium, replace(SCANNER, compounding_angles=3), np.random.default_rng(0))
    return 20 * np.log10(amplitude + 1e-9), medium


def correlation_width_px(field: np.ndarray) -> float:
    """Return where the lateral autocorrelation of a complex field (rows, columns) falls to a half."""
    power = np.abs(np.fft.fft(field, axis=1)) ** 2
    correlation = np.abs(np.fft.ifft(power.mean(axis=0)))
    return float(np.argmax(correlation < correlation[0] / 2))


def test_a_frame_has_kaggles_size_and_labels_of_nerve_and_vessels() -> None:
    pixels, labels = phantom.simulate_frame(0, 1, 1)
    assert pixels.shape == labels.shape == (420, 580)
    assert pixels.dtype == labels.dtype == np.uint8
    assert set(np.unique(labels)) <= {0, NERVE, VESSEL}
    assert pixels.min() < 40 and pixels.max() > 180, "the grey range is hardly used"


def test_pairs_come_in_order_and_a_frame_simulated_alone_has_the_same_bytes() -> None:
    pairs = list(phantom.simulate_pairs(subjects=4, frames=4, seed=3))  # enough for more than one process
    assert [(p.subject, p.number) for p in pairs] == [(str(s), n) for s in range(1, 5) for n in range(1, 5)]
    assert len({p.frame_file for p in pairs}) == len(pairs), "two frames are the same image"
    for pair in pairs[::-5]:
        alone = phantom.simulate_pair(3, int(pair.subject), pair.number)
        assert alone.frame_file == pair.frame_file
        assert alone.labels is not None and np.array_equal(alone.labels, pair.labels)
    assert phantom.simulate_pair(4, 1, 1).frame_file != pairs[0].frame_file, "the seed changes nothing"


def test_the_caller_can_stop_early() -> None:
    assert len(list(islice(phantom.simulate_pairs(subjects=50, frames=4, seed=3), 2))) == 2


def test_the_file_is_an_lzw_tiff_with_the_same_pixels() -> None:
    pair = phantom.simulate_pair(0, 2, 1)
    pixels, labels = phantom.simulate_frame(0, 2, 1)
    assert pair.suffix == ".tif" and pair.frame_file[:4] == b"II*\0"
    decoded = cv2.imdecode(np.frombuffer(pair.frame_file, np.uint8), cv2.IMREAD_UNCHANGED)
    assert decoded.dtype == np.uint8 and np.array_equal(decoded, pixels)
    assert pair.labels is not None and np.array_equal(pair.labels, labels)
    assert pair.spacing_mm is not None and 25 < pair.spacing_mm * 420 < 41, "millimetres of depth"
    assert len(pair.frame_file) < pixels.size * 1.5


def test_about_half_of_the_frames_have_no_nerve_and_most_subjects_have_both_kinds(subjects: Frames) -> None:
    with_nerve = np.array([[(labels == NERVE).any() for _, labels in frames] for frames in subjects])
    assert 0.4 <= 1 - with_nerve.mean() <= 0.6
    assert np.mean(with_nerve.any(axis=1) & ~with_nerve.all(axis=1)) > 0.8


def test_a_nerve_is_one_connected_region_of_kaggles_usual_size(subjects: Frames) -> None:
    for frames in subjects:
        for _, labels in frames:
            nerve = (labels == NERVE).astype(np.uint8)
            if nerve.any():
                assert 0.014 < nerve.mean() < 0.055
                assert cv2.connectedComponents(nerve)[0] == 2, "background and one nerve"
                assert not nerve[:, [0, -1]].any(), "the frame's side cuts the nerve"


def test_speckle_is_rayleigh_distributed_before_log_compression() -> None:
    amplitude = detect_envelope(Medium.uniform(420, 640), SCANNER, np.random.default_rng(1))[40:-40, 40:-40]
    signal_to_noise = amplitude.mean() / amplitude.std()
    assert signal_to_noise == pytest.approx(np.sqrt(np.pi / (4 - np.pi)), rel=0.04)  # 1.91
    assert np.mean(amplitude**2) == pytest.approx(1, rel=0.06), "0 dB of backscatter is not 0 dB of echo"


def test_spatial_compounding_smooths_speckle() -> None:
    scanners = [replace(SCANNER, compounding_angles=angles) for angles in (1, 4)]
    envelopes = [detect_envelope(Medium.uniform(200, 320), scanner, np.random.default_rng(1)) for scanner in scanners]
    single, compounded = (amplitude.mean() / amplitude.std() for amplitude in envelopes)
    assert compounded > 1.8 * single


def test_the_beam_widens_below_the_focus() -> None:
    noise = np.random.default_rng(2).standard_normal((420, 640, 2), dtype=np.float32)
    blurred = apply_point_spread(noise.view(np.complex64)[..., 0], SCANNER)
    at_focus, deep = correlation_width_px(blurred[85:115]), correlation_width_px(blurred[385:415])
    assert deep > 1.5 * at_focus


def test_log_compression_maps_the_dynamic_range_to_grey_values() -> None:
    decibel = np.array([[20, 0, -30, -60, -90]])
    assert log_compress(10 ** (decibel / 20), SCANNER).tolist() == [[255, 255, 128, 0, 0]]


def test_a_vessel_is_dark_and_enhances_the_tissue_behind_it() -> None:
    decibel, medium = image_structure(Vessel(Outline(0, 12, 3.5, 3.5), blood_db=-60, wall_db=-10))
    assert medium.labels[150, 290] == VESSEL and medium.labels[150, 100] == 0
    lumen, behind, beside = (
        decibel[rows, columns].mean()
        for rows, columns in (
            (slice(130, 170), slice(275, 305)),
            (slice(230, 280), slice(280, 300)),
            (slice(230, 280), slice(80, 120)),
        )
    )
    assert lumen < beside - 15
    assert behind > beside + 4


def test_bone_is_a_bright_surface_with_an_acoustic_shadow() -> None:
    decibel, _ = image_structure(Bone(Outline(0, 22, 10, 8)))
    surface, shadow, beside = (
        decibel[170:190, 285:295].max(axis=0).mean(),
        decibel[300:400, 270:310].mean(),
        decibel[300:400, 40:80].mean(),
    )
    assert surface > beside + 15
    assert shadow < beside - 30


def test_a_nerve_has_a_bright_epineurium_and_dark_fascicles() -> None:
    fascicles = np.array([[-0.45, 0, 0.35], [0.45, 0, 0.35]])
    nerve = Nerve(Outline(0, 12, 5, 3), fascicles, stroma_db=-24, fascicle_db=-42, epineurium_db=-20)
    decibel, medium = image_structure(nerve)
    inside = (medium.labels == NERVE).astype(np.uint8)
    assert inside.mean() == pytest.approx(np.pi * 5 * 3 / (420 * 580 * 0.08**2), rel=0.03)
    rim = (inside - cv2.erode(inside, np.ones((9, 9), np.uint8))).astype(bool)
    cores = np.concatenate([decibel[140:160, c - 8 : c + 8].ravel() for c in (262, 318)])
    between = decibel[140:160, 287:293]
    assert decibel[rim].mean() > cores.mean() + 12
    assert between.mean() > cores.mean() + 6, "the fascicles run together"


def test_frames_of_a_subject_are_more_alike_than_frames_of_different_subjects(subjects: Frames) -> None:
    small = [[cv2.resize(pixels, (58, 42), interpolation=cv2.INTER_AREA) for pixels, _ in f] for f in subjects]
    vectors = np.array([image.ravel() for frames in small for image in frames], np.float64)
    correlation = np.corrcoef(vectors)
    subject = np.repeat(np.arange(len(subjects)), 4)
    same_subject = (subject[:, None] == subject) & ~np.eye(len(subject), dtype=bool)
    other_subject = subject[:, None] != subject
    assert correlation[same_subject].mean() > correlation[other_subject].mean() + 0.15


def test_no_range_of_grey_values_segments_the_nerve(subjects: Frames) -> None:
    """Not even the best range, chosen with the masks known, after a blur that reduces the speckle."""
    with_nerve = [(cv2.blur(p, (9, 9)), m == NERVE) for frames in subjects for p, m in frames if (m == NERVE).any()]
    scores = []
    for low in range(0, 250, 10):
        for high in range(low + 10, 261, 30):
            masks = [((pixels >= low) & (pixels < high), nerve) for pixels, nerve in with_nerve[::3]]
            scores.append(np.mean([2 * (m & n).sum() / (m.sum() + n.sum()) for m, n in masks]))
    assert max(scores) < 0.25
