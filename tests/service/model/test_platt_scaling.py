"""Platt scaling: identity, monotony, and equal results for numbers and arrays."""

import numpy as np
import pytest

from service.model.platt_scaling import PlattScaling, log_odds

PROBABILITIES = np.linspace(0, 1, 101)


def test_the_default_is_the_identity() -> None:
    calibrated = [PlattScaling()(float(probability)) for probability in PROBABILITIES]
    assert np.allclose(calibrated, PROBABILITIES, atol=2e-6)


@pytest.mark.parametrize("scaling", [PlattScaling(2.0, -1.0), PlattScaling(0.5, 3.0)])
def test_numbers_and_arrays_give_equal_results_that_rise(scaling) -> None:
    calibrated = scaling.calibrate_array(PROBABILITIES)
    assert np.allclose(calibrated, [scaling(float(probability)) for probability in PROBABILITIES])
    assert (np.diff(calibrated) > 0).all()
    assert 0 < calibrated[0] < calibrated[-1] < 1


def test_log_odds_are_limited_at_0_and_1() -> None:
    assert log_odds(0.0) == pytest.approx(-log_odds(1.0)) == pytest.approx(np.log(1e-6), abs=1e-5)
    assert log_odds(0.5) == 0


def test_a_negative_slope_is_refused() -> None:
    with pytest.raises(ValueError, match="slope"):
        PlattScaling(slope=-1.0)
