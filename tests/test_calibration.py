"""Probabilities that may be believed, on numbers whose odds are known."""

import numpy as np
import pandas as pd
import pytest

from service.card import Logistic
from service.decision import levels
from training.calibration import calibration_error, counted, fit, fit_certainty, fit_pixels, fit_presence, reliability


@pytest.fixture
def overconfident() -> tuple[np.ndarray, np.ndarray]:
    """What a network says whose log-odds are three times too large, and what happened: 4,000 frames."""
    rng = np.random.default_rng(1)
    odds = rng.normal(0, 1.5, 4000)
    happened = rng.random(4000) < 1 / (1 + np.exp(-odds))
    return 1 / (1 + np.exp(-3 * odds - 1)), happened


def test_the_fit_undoes_what_was_done_to_the_odds(overconfident) -> None:
    found = fit_presence(*overconfident)
    assert found.slope == pytest.approx(1 / 3, abs=0.03)
    assert found.offset == pytest.approx(-1 / 3, abs=0.1)


def test_calibrated_the_error_is_small(overconfident) -> None:
    said, happened = overconfident
    found = fit_presence(said, happened)
    calibrated = np.array([found(value) for value in said])
    assert calibration_error(said, happened) > 0.1
    assert calibration_error(calibrated, happened) < 0.03


def test_the_error_is_the_gap_weighted_by_the_frames_in_each_bin() -> None:
    said, happened = np.array([0.15, 0.15, 0.95, 1.0]), np.array([False, True, True, True])
    assert calibration_error(said, happened) == pytest.approx((2 * 0.35 + 2 * 0.025) / 4)


def test_separable_frames_have_a_finite_slope() -> None:
    said = np.repeat([0.1, 0.9], 20)
    found = fit_presence(said, said > 0.5)
    assert found(0.1) == pytest.approx(1 / 42, abs=0.01)
    assert found(0.9) == pytest.approx(41 / 42, abs=0.01)


def test_shares_are_fitted_as_well_as_events() -> None:
    said = np.linspace(0.5, 0.95, 40)
    reached = said - 0.2
    found = fit(said, reached)
    assert np.abs([found(value) for value in said] - reached).mean() < 0.03


def test_what_says_the_contrary_is_levelled_not_turned_round() -> None:
    said = np.linspace(0.1, 0.9, 40)
    assert fit(said, 1 - said).slope == 0


def test_frames_that_all_hold_a_nerve_leave_presence_as_it_is(capsys) -> None:
    said, always = np.linspace(0.6, 0.9, 30), np.ones(30, bool)
    assert fit_presence(said, always) == Logistic()
    assert "not calibrated" in capsys.readouterr().out


@pytest.mark.parametrize("nerve", [np.ones(30, bool), np.arange(30) % 2 == 0])
def test_how_far_answers_may_be_believed_is_drawn(tmp_path, nerve) -> None:
    said = np.linspace(0.1, 0.9, 30)
    confidence = np.where(said > 0.3, said, np.nan)
    scores = pd.DataFrame({"presence": said, "nerve": nerve, "confidence": confidence, "dice": said**2})
    reliability(tmp_path / "reliability.png", scores)
    assert (tmp_path / "reliability.png").stat().st_size > 5000


def test_too_few_frames_leave_probabilities_as_they_are(capsys) -> None:
    said = np.linspace(0.1, 0.9, 9)
    assert fit_presence(said, said > 0.7) == Logistic()
    assert "presence is not calibrated: 9 frames" in capsys.readouterr().out
    level = levels(np.linspace(0, 1, 50))
    assert fit_pixels([counted(level, level > level.mean())] * 9) == Logistic()
    assert "probability is not calibrated: 9 frames" in capsys.readouterr().out


def test_too_few_masks_leave_certainty_as_it_is(capsys) -> None:
    assert fit_certainty(np.linspace(0.5, 0.9, 9), np.linspace(0.1, 0.9, 9)) == Logistic()
    assert "confidence is not calibrated: 9 masks" in capsys.readouterr().out
    assert fit_certainty(np.linspace(0.5, 0.9, 10), np.linspace(0.1, 0.9, 10)) != Logistic()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("probability", [0.01, 0.25, 0.5, 0.999])
def test_the_identity_changes_nothing(probability: float) -> None:
    assert Logistic()(probability) == pytest.approx(probability)


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_a_networks_certainty_stays_finite(probability: float) -> None:
    assert abs(Logistic(1000.0, 0.0)(probability) - probability) < 1e-5


def test_frames_that_say_the_same_do_not_tell_a_slope() -> None:
    said, reached = np.linspace(0.90, 0.91, 14), np.linspace(0.80, 0.95, 14)
    assert fit(said, reached).slope == pytest.approx(1, abs=0.3)
    assert fit(said, reached)(0.905) == pytest.approx(reached.mean(), abs=0.02)


def test_pixels_of_a_network_that_is_too_sure_are_calibrated() -> None:
    rng = np.random.default_rng(1)
    frames = []
    for _ in range(12):
        odds = rng.normal(-1, 2, 20_000)
        nerve = rng.random(20_000) < 1 / (1 + np.exp(-odds))
        frames.append(counted(levels((1 / (1 + np.exp(-2 * odds - 1))).astype(np.float32)), nerve))
    found = fit_pixels(frames)
    assert found.slope == pytest.approx(0.5, abs=0.02)
    assert found.offset == pytest.approx(-0.5, abs=0.05)
    assert fit_pixels(frames[:3]) == Logistic()  # too few frames to tell


def test_pixels_that_are_never_nerve_are_not_calibrated() -> None:
    level = levels(np.linspace(0, 1, 100, dtype=np.float32))
    assert fit_pixels([counted(level, np.zeros(100, bool))] * 20) == Logistic()
