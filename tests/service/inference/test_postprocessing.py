"""Postprocessing makes the mask with the greatest expected Dice, within the card's limits."""

import numpy as np
import pytest

from service.inference.mask_confidence import mask_confidence, mean_mask_probability
from service.inference.postprocessing import optimal_threshold, postprocess
from service.inference.probability_histogram import (
    BIN_COUNT,
    bin_indices,
    bin_lower_bound,
    calibrate_pixels,
    compute_histogram,
)
from service.model.platt_scaling import PlattScaling
from service.model.postprocessing_config import PostprocessingConfig

SPOT = np.full((100, 100), 0.001, np.float32)
SPOT[40:50, 40:60] = 0.7  # 200 of 10,000 pixels


@pytest.mark.parametrize(
    ("presence", "config", "area_px"),
    [
        pytest.param(0.9, PostprocessingConfig(0.5, 0.002), 200, id="above the limits"),
        pytest.param(0.5, PostprocessingConfig(0.5, 0.002), 200, id="presence at its minimum"),
        pytest.param(0.49, PostprocessingConfig(0.5, 0.002), 0, id="presence below its minimum"),
        pytest.param(0.9, PostprocessingConfig(0.5, 0.02), 200, id="area at its minimum"),
        pytest.param(0.9, PostprocessingConfig(0.5, 0.0201), 0, id="area below its minimum"),
        pytest.param(0.0, PostprocessingConfig(0.0, 0.0), 200, id="no limits"),
    ],
)
def test_the_mask_is_empty_below_a_minimum(presence: float, config: PostprocessingConfig, area_px: int) -> None:
    mask = postprocess(SPOT, presence, config)
    assert mask.dtype == np.uint8
    assert np.count_nonzero(mask == 255) == np.count_nonzero(mask) == area_px


@pytest.mark.parametrize(("max_components", "area_px"), [(1, 400), (2, 496), (3, 500), (9, 500), (None, 500)])
def test_the_largest_components_are_kept(max_components: int | None, area_px: int) -> None:
    probability = np.zeros((100, 100), np.float32)
    probability[5:7, 5:7] = 0.9  # 4 pixels, first in the image
    probability[10:20, 80:90] = 0.9
    probability[12:14, 82:84] = 0.0  # a hole: 96 pixels
    probability[60:80, 20:40] = 0.9  # 400
    mask = postprocess(probability, 1.0, PostprocessingConfig(0.5, 0.0, max_components))
    assert np.count_nonzero(mask == 255) == np.count_nonzero(mask) == area_px


@pytest.mark.parametrize(("small_peak", "area_px"), [(0.58, 400), (0.62, 404)])
def test_a_component_below_the_minimum_peak_is_removed(small_peak: float, area_px: int) -> None:
    probability = np.full((100, 100), 0.001, np.float32)
    probability[60:80, 20:40] = 0.5  # below the minimum too, but connected to the peak
    probability[65:66, 25:26] = 1.0
    probability[5:7, 5:7] = small_peak
    mask = postprocess(probability, 1.0, PostprocessingConfig(0.5, 0.0, min_peak_ratio=0.6))
    assert mask[60:80, 20:40].all()
    assert np.count_nonzero(mask == 255) == np.count_nonzero(mask) == area_px


def test_the_minimum_peak_applies_to_calibrated_probability() -> None:
    probability = np.full((100, 100), 0.001, np.float32)
    probability[60:80, 20:40], probability[5:7, 5:7] = 0.9, 0.5
    assert postprocess(probability, 1.0, PostprocessingConfig(0.5, 0.0))[5, 5], "the default has no minimum peak"
    assert not postprocess(probability, 1.0, PostprocessingConfig(0.5, 0.0, min_peak_ratio=0.6))[5, 5]
    flat = PlattScaling(0.2, 0.0)  # 0.9 becomes 0.61
    config = PostprocessingConfig(0.5, 0.0, pixel_calibration=flat, min_peak_ratio=0.6)
    assert postprocess(probability, 1.0, config)[5, 5]


def test_the_minimum_area_applies_to_the_kept_components() -> None:
    probability = np.zeros((100, 100), np.float32)
    probability[10:20, 10:20] = probability[10:20, 40:49] = 0.9  # 100 and 90 pixels
    assert postprocess(probability, 1.0, PostprocessingConfig(0.5, 0.015)).any()
    assert not postprocess(probability, 1.0, PostprocessingConfig(0.5, 0.015, 1)).any()


def test_the_minimum_presence_applies_to_calibrated_presence() -> None:
    lower = PlattScaling(1.0, -2.0)  # 0.8 becomes 0.35
    assert postprocess(SPOT, 0.8, PostprocessingConfig(0.5, 0.0)).any()
    assert not postprocess(SPOT, 0.8, PostprocessingConfig(0.5, 0.0, presence_calibration=lower)).any()


@pytest.mark.parametrize("calibration", [PlattScaling(), PlattScaling(0.5, 0.3), PlattScaling(2.0, -1.0)])
@pytest.mark.parametrize("seed", range(5))
def test_no_other_threshold_has_a_greater_expected_dice(seed: int, calibration: PlattScaling) -> None:
    probability = np.random.default_rng(seed).random((60, 80), np.float32) ** 6
    best = probability >= optimal_threshold(probability, calibration)
    nerve = calibration.calibrate_array(probability.ravel()).reshape(probability.shape)

    def expected_dice(mask: np.ndarray) -> float:
        return 2 * nerve[mask].sum() / (nerve.sum() + mask.sum())

    others = (probability >= threshold for threshold in np.linspace(0.01, 0.99, 99, dtype=np.float32))
    assert expected_dice(best) >= max(map(expected_dice, others)) - 1e-3


def test_the_threshold_adapts_to_the_frame() -> None:
    """A faint nerve has the same mask as a bright one, because other frames do not matter."""
    config = PostprocessingConfig(0.0, 0.0)
    assert np.array_equal(postprocess(SPOT * 0.1, 1.0, config), postprocess(SPOT, 1.0, config))


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_the_mask_of_a_constant_probability_is_the_whole_frame(value: float) -> None:
    assert optimal_threshold(np.full((420, 580), value, np.float32), PlattScaling()) <= value


def test_bins_distinguish_probabilities_from_0_to_1() -> None:
    probability = np.array([0, 1e-7, 1e-3, 0.5, 0.505, 0.999, 1], np.float32)
    bins = bin_indices(probability)
    assert (np.diff(bins.astype(int)) > 0).all()
    assert bins[0] == 0
    assert bins[-1] == BIN_COUNT - 1
    assert np.abs(calibrate_pixels(probability, PlattScaling()) - probability).max() < 0.004


def test_a_histogram_counts_each_pixel_once() -> None:
    probability = np.random.default_rng(1).random((30, 40), np.float32)
    counts = compute_histogram(probability[::2, ::3])
    assert counts.shape == (BIN_COUNT,)
    assert counts.sum() == 15 * 14


@pytest.mark.parametrize("calibration", [PlattScaling(), PlattScaling(0.5, 0.3), PlattScaling(2.0, -1.0)])
def test_a_lower_bound_is_the_first_probability_of_its_bin(calibration: PlattScaling) -> None:
    bound = bin_lower_bound(0.4, calibration)
    below = np.nextafter(bound, np.float32(0))
    at_bound, before = calibrate_pixels(np.array([bound, below]), calibration)
    assert before < 0.4 <= at_bound


def test_a_calibrated_probability_that_no_bin_reaches_has_the_lower_bound_1() -> None:
    assert bin_lower_bound(0.9, PlattScaling(0.0, 0.0)) == 1


def test_the_mean_mask_probability_ignores_pixels_outside_the_mask() -> None:
    mask = np.zeros((10, 10), np.uint8)
    assert mean_mask_probability(np.ones((10, 10), np.float32), mask, PlattScaling()) is None
    mask[:4], mask[4, 0] = 255, 255
    probability = np.full((10, 10), 0.4, np.float32)
    probability[:2] = 0.8
    mean = (20 * 0.8 + 21 * 0.4) / 41
    assert mean_mask_probability(probability, mask, PlattScaling()) == pytest.approx(mean, abs=0.004)
    probability[5:] = 0.1
    assert mean_mask_probability(probability, mask, PlattScaling()) == pytest.approx(mean, abs=0.004)
    assert mean_mask_probability(probability, mask, PlattScaling(1.0, -20.0)) == pytest.approx(0, abs=1e-4)


def test_confidence_is_the_calibrated_mean_mask_probability() -> None:
    config = PostprocessingConfig(0.0, 0.0, confidence_calibration=PlattScaling(1.0, -2.0))
    mask = np.zeros((10, 10), np.uint8)
    assert mask_confidence(np.ones((10, 10), np.float32), mask, config) is None
    mask[0] = 255
    assert mask_confidence(np.full((10, 10), 0.8, np.float32), mask, config) == pytest.approx(0.35, abs=0.01)
