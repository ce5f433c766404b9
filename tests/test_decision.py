"""A mask made of probabilities: the best that can be expected of them, within the card's limits."""

import numpy as np
import pytest

from service.card import Decision, Logistic
from service.decision import LEVELS, best_cut, calibrated, certainty, decide, levels

SPOT = np.full((100, 100), 0.001, np.float32)
SPOT[40:50, 40:60] = 0.7  # 200 of 10,000 pixels


@pytest.mark.parametrize(
    ("presence", "decision", "area"),
    [
        (0.9, Decision(0.5, 0.002), 200),
        (0.5, Decision(0.5, 0.002), 200),  # presence at its least
        (0.49, Decision(0.5, 0.002), 0),  # below it
        (0.9, Decision(0.5, 0.02), 200),  # area at its least
        (0.9, Decision(0.5, 0.0201), 0),  # below it
        (0.0, Decision(0.0, 0.0), 200),
    ],
)
def test_the_limits_are_the_cards(presence: float, decision: Decision, area: int) -> None:
    mask = decide(SPOT, presence, decision)
    assert mask.dtype == np.uint8
    assert np.count_nonzero(mask == 255) == np.count_nonzero(mask) == area


@pytest.mark.parametrize(("components", "area"), [(1, 400), (2, 496), (3, 500), (9, 500), (None, 500)])
def test_the_largest_parts_are_kept(components: int | None, area: int) -> None:
    probability = np.zeros((100, 100), np.float32)
    probability[5:7, 5:7] = 0.9  # 4 pixels, first in the picture
    probability[10:20, 80:90] = 0.9
    probability[12:14, 82:84] = 0.0  # a hole: 96 pixels
    probability[60:80, 20:40] = 0.9  # 400
    mask = decide(probability, 1.0, Decision(0.5, 0.0, components))
    assert np.count_nonzero(mask == 255) == np.count_nonzero(mask) == area


@pytest.mark.parametrize(("faint", "area"), [(0.58, 400), (0.62, 404)])
def test_a_part_that_is_faint_beside_another_is_left_out(faint: float, area: int) -> None:
    probability = np.full((100, 100), 0.001, np.float32)
    probability[60:80, 20:40] = 0.5  # connected with what is sure, and drawn
    probability[65:66, 25:26] = 1.0
    probability[5:7, 5:7] = faint
    mask = decide(probability, 1.0, Decision(0.5, 0.0, faint=0.6))
    assert mask[60:80, 20:40].all()
    assert np.count_nonzero(mask == 255) == np.count_nonzero(mask) == area


def test_what_is_faint_is_told_by_the_calibrated_probability() -> None:
    probability = np.full((100, 100), 0.001, np.float32)
    probability[60:80, 20:40], probability[5:7, 5:7] = 0.9, 0.5
    assert decide(probability, 1.0, Decision(0.5, 0.0))[5, 5], "unless the card says otherwise, nothing is too faint"
    assert not decide(probability, 1.0, Decision(0.5, 0.0, faint=0.6))[5, 5]
    flattened = Logistic(0.2, 0.0)  # 0.9 becomes 0.61
    assert decide(probability, 1.0, Decision(0.5, 0.0, pixel_calibration=flattened, faint=0.6))[5, 5]


def test_the_area_is_of_what_was_kept() -> None:
    probability = np.zeros((100, 100), np.float32)
    probability[10:20, 10:20] = probability[10:20, 40:49] = 0.9  # 100 and 90 pixels
    assert decide(probability, 1.0, Decision(0.5, 0.015)).any()
    assert not decide(probability, 1.0, Decision(0.5, 0.015, 1)).any()


def test_presence_is_decided_upon_calibrated() -> None:
    halved = Logistic(1.0, -2.0)  # 0.8 becomes 0.35
    assert decide(SPOT, 0.8, Decision(0.5, 0.0)).any()
    assert not decide(SPOT, 0.8, Decision(0.5, 0.0, presence_calibration=halved)).any()


@pytest.mark.parametrize("calibration", [Logistic(), Logistic(0.5, 0.3), Logistic(2.0, -1.0)])
@pytest.mark.parametrize("seed", range(5))
def test_no_other_cut_has_a_greater_expected_dice(seed: int, calibration: Logistic) -> None:
    probability = np.random.default_rng(seed).random((60, 80), np.float32) ** 6
    drawn = probability >= best_cut(probability, calibration)
    nerve = calibration.of_all(probability.ravel()).reshape(probability.shape)

    def expected_dice(mask: np.ndarray) -> float:
        return 2 * nerve[mask].sum() / (nerve.sum() + mask.sum())

    others = (probability >= cut for cut in np.linspace(0.01, 0.99, 99, dtype=np.float32))
    assert expected_dice(drawn) >= max(map(expected_dice, others)) - 1e-3


def test_where_nothing_is_sure_more_is_drawn() -> None:
    """A faint nerve is drawn at its own level, however bright another frame's would be."""
    faint = SPOT * 0.1
    assert np.array_equal(decide(faint, 1.0, Decision(0.0, 0.0)), decide(SPOT, 1.0, Decision(0.0, 0.0)))


def test_levels_tell_probabilities_apart_from_nothing_to_all() -> None:
    probability = np.array([0, 1e-7, 1e-3, 0.5, 0.505, 0.999, 1], np.float32)
    found = levels(probability)
    assert (np.diff(found.astype(int)) > 0).all()
    assert found[0] == 0
    assert found[-1] == LEVELS - 1
    assert np.abs(calibrated(Logistic())[found] - probability).max() < 0.004


@pytest.mark.parametrize("grey", [0.0, 0.3, 1.0])
def test_a_map_that_is_the_same_everywhere_is_drawn_whole(grey: float) -> None:
    assert best_cut(np.full((420, 580), grey, np.float32), Logistic()) <= grey


def test_a_mask_is_as_certain_as_its_pixels_whatever_lies_around_it() -> None:
    mask = np.zeros((10, 10), np.uint8)
    assert certainty(np.ones((10, 10), np.float32), mask, Logistic()) is None
    mask[:4], mask[4, 0] = 255, 255
    probability = np.full((10, 10), 0.4, np.float32)
    probability[:2] = 0.8
    of_pixels = (20 * 0.8 + 21 * 0.4) / 41
    assert certainty(probability, mask, Logistic()) == pytest.approx(of_pixels, abs=0.004)
    probability[5:] = 0.1
    assert certainty(probability, mask, Logistic()) == pytest.approx(of_pixels, abs=0.004)
    assert certainty(probability, mask, Logistic(1.0, -20.0)) == pytest.approx(0, abs=1e-4)
