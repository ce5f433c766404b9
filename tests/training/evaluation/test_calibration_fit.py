"""Platt scaling recovers known log-odds, and stays the identity without enough frames."""

import numpy as np
import pandas as pd
import pytest

from service.model.platt_scaling import PlattScaling
from training.evaluation.calibration_fit import (
    expected_calibration_error,
    fit_confidence,
    fit_pixels,
    fit_platt_scaling,
    fit_presence,
    pixel_histograms,
)
from training.evaluation.reliability_plot import plot_reliability


@pytest.fixture
def overconfident() -> tuple[np.ndarray, np.ndarray]:
    """Predictions with log-odds three times too large, and the outcomes: 4,000 frames."""
    rng = np.random.default_rng(1)
    odds = rng.normal(0, 1.5, 4000)
    nerve = rng.random(4000) < 1 / (1 + np.exp(-odds))
    return 1 / (1 + np.exp(-3 * odds - 1)), nerve


def test_the_fit_recovers_slope_and_intercept(overconfident) -> None:
    scaling = fit_presence(*overconfident)
    assert scaling.slope == pytest.approx(1 / 3, abs=0.03)
    assert scaling.intercept == pytest.approx(-1 / 3, abs=0.1)


def test_calibration_makes_the_calibration_error_small(overconfident) -> None:
    predicted, nerve = overconfident
    calibrated = fit_presence(predicted, nerve).calibrate_array(predicted)
    assert expected_calibration_error(predicted, nerve) > 0.1
    assert expected_calibration_error(calibrated, nerve) < 0.03


def test_the_calibration_error_weights_each_bin_by_its_frames() -> None:
    predicted, nerve = np.array([0.15, 0.15, 0.95, 1.0]), np.array([False, True, True, True])
    assert expected_calibration_error(predicted, nerve) == pytest.approx((2 * 0.35 + 2 * 0.025) / 4)


def test_the_slope_of_separable_frames_is_finite() -> None:
    predicted = np.repeat([0.1, 0.9], 20)
    scaling = fit_presence(predicted, predicted > 0.5)
    assert scaling(0.1) == pytest.approx(1 / 42, abs=0.01)
    assert scaling(0.9) == pytest.approx(41 / 42, abs=0.01)


def test_the_fit_accepts_shares_as_targets() -> None:
    predicted = np.linspace(0.5, 0.95, 40)
    target = predicted - 0.2
    scaling = fit_platt_scaling(predicted, target)
    assert np.abs([scaling(value) for value in predicted] - target).mean() < 0.03


def test_the_slope_of_reversed_predictions_is_0() -> None:
    predicted = np.linspace(0.1, 0.9, 40)
    assert fit_platt_scaling(predicted, 1 - predicted).slope == 0


def test_nearly_equal_predictions_keep_a_slope_near_1() -> None:
    predicted, target = np.linspace(0.90, 0.91, 14), np.linspace(0.80, 0.95, 14)
    scaling = fit_platt_scaling(predicted, target)
    assert scaling.slope == pytest.approx(1, abs=0.3)
    assert scaling(0.905) == pytest.approx(target.mean(), abs=0.02)


def test_presence_is_not_calibrated_if_every_frame_shows_a_nerve(capsys) -> None:
    predicted, nerve = np.linspace(0.6, 0.9, 30), np.ones(30, bool)
    assert fit_presence(predicted, nerve) == PlattScaling()
    assert "presence is not calibrated" in capsys.readouterr().out


def test_presence_is_not_calibrated_with_too_few_frames(capsys) -> None:
    predicted = np.linspace(0.1, 0.9, 9)
    assert fit_presence(predicted, predicted > 0.7) == PlattScaling()
    assert "presence is not calibrated: validation has 9 frames" in capsys.readouterr().out


def test_confidence_is_not_calibrated_with_too_few_masks(capsys) -> None:
    assert fit_confidence(np.linspace(0.5, 0.9, 9), np.linspace(0.1, 0.9, 9)) == PlattScaling()
    assert "confidence is not calibrated: validation has 9 masks" in capsys.readouterr().out
    assert fit_confidence(np.linspace(0.5, 0.9, 10), np.linspace(0.1, 0.9, 10)) != PlattScaling()
    assert capsys.readouterr().out == ""


def test_pixels_are_not_calibrated_with_too_few_frames(capsys) -> None:
    probability = np.linspace(0, 1, 50, dtype=np.float32)
    assert fit_pixels([pixel_histograms(probability, probability > 0.5)] * 9) == PlattScaling()
    assert "pixel probability is not calibrated: validation has 9 frames" in capsys.readouterr().out


def test_pixels_are_not_calibrated_without_nerve_pixels() -> None:
    histograms = pixel_histograms(np.linspace(0, 1, 100, dtype=np.float32), np.zeros(100, bool))
    assert fit_pixels([histograms] * 20) == PlattScaling()


def test_the_pixel_fit_recovers_slope_and_intercept() -> None:
    rng = np.random.default_rng(1)
    histograms = []
    for _ in range(12):
        odds = rng.normal(-1, 2, (100, 200))
        nerve = rng.random((100, 200)) < 1 / (1 + np.exp(-odds))
        histograms.append(pixel_histograms((1 / (1 + np.exp(-2 * odds - 1))).astype(np.float32), nerve))
    scaling = fit_pixels(histograms)
    assert scaling.slope == pytest.approx(0.5, abs=0.02)
    assert scaling.intercept == pytest.approx(-0.5, abs=0.05)


@pytest.mark.parametrize("probability", [0.01, 0.25, 0.5, 0.999])
def test_the_default_scaling_is_the_identity(probability: float) -> None:
    assert PlattScaling()(probability) == pytest.approx(probability)


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_scaling_is_finite_at_0_and_1(probability: float) -> None:
    assert abs(PlattScaling(1000.0, 0.0)(probability) - probability) < 1e-5


@pytest.mark.parametrize(
    "nerve", [np.ones(30, bool), np.arange(30) % 2 == 0], ids=["every frame shows a nerve", "both kinds of frames"]
)
def test_the_reliability_plot_is_written(tmp_path, nerve) -> None:
    presence = np.linspace(0.1, 0.9, 30)
    confidence = np.where(presence > 0.3, presence, np.nan)
    scores = pd.DataFrame({"presence": presence, "nerve": nerve, "confidence": confidence, "dice": presence**2})
    plot_reliability(tmp_path / "reliability.png", scores)
    assert (tmp_path / "reliability.png").stat().st_size > 5000
