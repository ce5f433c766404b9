"""The phantom is ultrasound: its speckle, beam, shadows and enhancement are measured, not looked at."""

from dataclasses import replace
from itertools import islice

import cv2
import numpy as np
import pytest

from training.sources import phantom
from training.sources.layout import NERVE, VESSEL
from training.sources.phantom.acoustics import Medium, Scanner, envelope, log_compress, point_spread
from training.sources.phantom.structures import Bone, Nerve, Outline, Plane, Vessel

SCANNER = Scanner(
    spacing_mm=0.08,
    frequency_mhz=10,
    f_number=2,
    focus_mm=8,
    looks=1,
    gain_db=0,
    dynamic_range_db=60,
    contrast=1,
    time_gain=1,
    noise_db=-200,
)


@pytest.fixture(scope="module")
def crowd() -> list[list[tuple[np.ndarray, np.ndarray]]]:
    """24 subjects of four frames each, as (pixels, labels)."""
    return [[phantom.frame(5, subject, number) for number in range(1, 5)] for subject in range(1, 25)]


def tank(structure: Bone | Nerve | Vessel) -> tuple[np.ndarray, Medium]:
    """One structure in homogeneous tissue of -30 dB: its envelope in dB, and the medium, 420 x 580."""
    medium = Medium.uniform(420, 580, -30)
    x, z = np.meshgrid((np.arange(580) - 290) * 0.08, np.arange(420) * 0.08)
    structure.paint(medium, Plane(x.astype(np.float32), z.astype(np.float32), 0.0))
    amplitude = envelope(medium, replace(SCANNER, looks=3), np.random.default_rng(0))
    return 20 * np.log10(amplitude + 1e-9), medium


def lateral_width(field: np.ndarray) -> float:
    """Pixels until the lateral autocorrelation of a complex field (rows, columns) falls to a half."""
    power = np.abs(np.fft.fft(field, axis=1)) ** 2
    correlation = np.abs(np.fft.ifft(power.mean(axis=0)))
    return float(np.argmax(correlation < correlation[0] / 2))


def test_a_frame_has_kaggles_size_and_labels_its_nerve_and_vessels() -> None:
    pixels, labels = phantom.frame(0, 1, 1)
    assert pixels.shape == labels.shape == (420, 580)
    assert pixels.dtype == labels.dtype == np.uint8
    assert set(np.unique(labels)) <= {0, NERVE, VESSEL}
    assert pixels.min() < 40 and pixels.max() > 180, "the grey range is hardly used"


def test_the_stream_is_in_order_and_any_frame_made_alone_has_the_same_bytes() -> None:
    stream = list(phantom.pairs(subjects=4, frames=4, seed=3))  # enough for more than one process
    assert [(p.subject, p.number) for p in stream] == [(str(s), n) for s in range(1, 5) for n in range(1, 5)]
    assert len({p.frame for p in stream}) == len(stream), "two frames are the same picture"
    for streamed in stream[::-5]:
        alone = phantom.pair(3, int(streamed.subject), streamed.number)
        assert alone.frame == streamed.frame
        assert alone.labels is not None and np.array_equal(alone.labels, streamed.labels)
    assert phantom.pair(4, 1, 1).frame != stream[0].frame, "the seed changes nothing"


def test_a_stream_can_be_left_early() -> None:
    assert len(list(islice(phantom.pairs(subjects=50, frames=4, seed=3), 2))) == 2


def test_the_file_is_an_lzw_tiff_that_holds_the_very_pixels() -> None:
    made = phantom.pair(0, 2, 1)
    pixels, labels = phantom.frame(0, 2, 1)
    assert made.suffix == ".tif" and made.frame[:4] == b"II*\0"
    read = cv2.imdecode(np.frombuffer(made.frame, np.uint8), cv2.IMREAD_UNCHANGED)
    assert read.dtype == np.uint8 and np.array_equal(read, pixels)
    assert made.labels is not None and np.array_equal(made.labels, labels)
    assert made.spacing_mm is not None and 25 < made.spacing_mm * 420 < 41, "millimetres of depth"
    assert len(made.frame) < pixels.size * 1.5


def test_about_half_of_the_frames_have_no_nerve_and_most_subjects_have_both_kinds(crowd: list) -> None:
    shown = np.array([[(labels == NERVE).any() for _, labels in frames] for frames in crowd])
    assert 0.4 <= 1 - shown.mean() <= 0.6
    assert np.mean(shown.any(axis=1) & ~shown.all(axis=1)) > 0.8


def test_a_nerve_is_one_whole_region_of_kaggles_usual_size(crowd: list) -> None:
    for frames in crowd:
        for _, labels in frames:
            nerve = (labels == NERVE).astype(np.uint8)
            if nerve.any():
                assert 0.014 < nerve.mean() < 0.055
                assert cv2.connectedComponents(nerve)[0] == 2, "background and one nerve"
                assert not nerve[:, [0, -1]].any(), "cut off at the frame's side"


def test_speckle_is_rayleigh_distributed_before_log_compression() -> None:
    amplitude = envelope(Medium.uniform(420, 640), SCANNER, np.random.default_rng(1))[40:-40, 40:-40]
    signal_to_noise = amplitude.mean() / amplitude.std()
    assert signal_to_noise == pytest.approx(np.sqrt(np.pi / (4 - np.pi)), rel=0.04)  # 1.91
    assert np.mean(amplitude**2) == pytest.approx(1, rel=0.06), "0 dB of backscatter is not 0 dB of echo"


def test_compounding_looks_smooths_speckle() -> None:
    looks = [envelope(Medium.uniform(200, 320), replace(SCANNER, looks=n), np.random.default_rng(1)) for n in (1, 4)]
    single, compounded = (amplitude.mean() / amplitude.std() for amplitude in looks)
    assert compounded > 1.8 * single


def test_the_point_spread_widens_below_the_focus() -> None:
    noise = np.random.default_rng(2).standard_normal((420, 640, 2), dtype=np.float32)
    blurred = point_spread(noise.view(np.complex64)[..., 0], SCANNER)
    at_focus, deep = lateral_width(blurred[85:115]), lateral_width(blurred[385:415])
    assert deep > 1.5 * at_focus


def test_log_compression_maps_the_dynamic_range_onto_the_greys() -> None:
    decibel = np.array([[20, 0, -30, -60, -90]])
    assert log_compress(10 ** (decibel / 20), SCANNER).tolist() == [[255, 255, 128, 0, 0]]


def test_a_vessel_is_dark_and_enhances_what_lies_behind_it() -> None:
    decibel, medium = tank(Vessel(Outline(0, 12, 3.5, 3.5), blood_db=-60, wall_db=-10))
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


def test_bone_is_a_bright_surface_with_a_shadow_below() -> None:
    decibel, _ = tank(Bone(Outline(0, 22, 10, 8)))
    surface, shadow, beside = (
        decibel[170:190, 285:295].max(axis=0).mean(),
        decibel[300:400, 270:310].mean(),
        decibel[300:400, 40:80].mean(),
    )
    assert surface > beside + 15
    assert shadow < beside - 30


def test_a_nerve_has_a_bright_rim_and_dark_fascicles() -> None:
    fascicles = np.array([[-0.45, 0, 0.35], [0.45, 0, 0.35]])
    nerve = Nerve(Outline(0, 12, 5, 3), fascicles, stroma_db=-24, fascicle_db=-42, rim_db=-20)
    decibel, medium = tank(nerve)
    inside = (medium.labels == NERVE).astype(np.uint8)
    assert inside.mean() == pytest.approx(np.pi * 5 * 3 / (420 * 580 * 0.08**2), rel=0.03)
    rim = (inside - cv2.erode(inside, np.ones((9, 9), np.uint8))).astype(bool)
    cores = np.concatenate([decibel[140:160, c - 8 : c + 8].ravel() for c in (262, 318)])
    between = decibel[140:160, 287:293]
    assert decibel[rim].mean() > cores.mean() + 12
    assert between.mean() > cores.mean() + 6, "the fascicles run together"


def test_frames_of_a_subject_resemble_each_other_more_than_those_of_others(crowd: list) -> None:
    small = [[cv2.resize(pixels, (58, 42), interpolation=cv2.INTER_AREA) for pixels, _ in f] for f in crowd]
    flat = np.array([picture.ravel() for frames in small for picture in frames], np.float64)
    alike = np.corrcoef(flat)
    subject = np.repeat(np.arange(len(crowd)), 4)
    same = (subject[:, None] == subject) & ~np.eye(len(subject), dtype=bool)
    assert alike[same].mean() > alike[subject[:, None] != subject].mean() + 0.15


def test_no_grey_threshold_finds_the_nerve(crowd: list) -> None:
    """The best band of greys, smoothed to lessen the speckle, chosen with the masks known."""
    shown = [(cv2.blur(p, (9, 9)), m == NERVE) for frames in crowd for p, m in frames if (m == NERVE).any()]
    scores = []
    for low in range(0, 250, 10):
        for high in range(low + 10, 261, 30):
            guesses = [((pixels >= low) & (pixels < high), nerve) for pixels, nerve in shown[::3]]
            scores.append(np.mean([2 * (g & n).sum() / (g.sum() + n.sum()) for g, n in guesses]))
    assert max(scores) < 0.25
