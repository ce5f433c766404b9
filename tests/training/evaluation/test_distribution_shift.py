"""The corruptions change what they say and nothing else, and the summary counts the frames with a warning."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from service.decoding.frame import Frame
from service.inference.out_of_distribution import image_features
from service.model.postprocessing_config import PostprocessingConfig
from tests.frames import png, speckle
from training.evaluation import distribution_shift
from training.evaluation.distribution_shift import Scorer, frames_without_nerve, summarize_shifts
from training.evaluation.image_corruptions import INTENSITY_CORRUPTIONS, SPATIAL_CORRUPTIONS
from training.evaluation.out_of_distribution_fit import fit_stats

CORRUPTIONS = INTENSITY_CORRUPTIONS | SPATIAL_CORRUPTIONS


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_keeps_size_and_type_and_is_reproducible(name: str) -> None:
    frame = speckle(1, 96, 128)
    before = frame.copy()
    corrupted = CORRUPTIONS[name](frame)
    assert (corrupted.shape, corrupted.dtype) == (frame.shape, np.uint8)
    assert np.array_equal(corrupted, CORRUPTIONS[name](frame))
    assert np.array_equal(frame, before)
    assert np.array_equal(corrupted, frame) is (name == "unchanged")


@pytest.mark.parametrize("name", SPATIAL_CORRUPTIONS)
def test_a_spatial_corruption_moves_the_nerve_with_its_pixels(name: str) -> None:
    """A nerve of full brightness on black stays where the brightness is."""
    nerve = np.zeros((96, 128), np.uint8)
    nerve[40:70, 50:80] = 255
    frame = nerve // 255 * np.uint8(200)
    corrupt = SPATIAL_CORRUPTIONS[name]
    assert np.mean((corrupt(nerve) > 127) != (corrupt(frame) > 100)) < 0.002
    assert corrupt(nerve).any()


def test_the_summary_counts_wrong_and_right_masks_with_a_warning() -> None:
    scores = pd.DataFrame(
        {
            "shift": ["unchanged", "blur", "blur", "blur", "blur", "without a nerve: hearts"],
            "dice": [0.9, 0.1, 0.2, 0.5, 0.8, 0.0],
            "expected_dice": [0.9, 0.2, 0.7, 0.5, 0.4, 0.8],
            "low_confidence": [False, True, False, False, True, False],
            "out_of_distribution": [False, False, True, False, False, False],
        }
    )
    unchanged, blur, hearts, changed = summarize_shifts(scores).to_dict("records")
    assert list(changed.values())[1:] == list(blur.values())[1:]
    assert list(hearts.values())[3:] == ["0% of 1", "0% of 1", "-", "-"]
    assert list(blur.values())[1:] == ["0.400", "0.450", "50% of 2", "100% of 2", "100% of 1", "100% of 1"]
    assert list(unchanged.values())[3:] == ["-", "-", "0% of 1", "0% of 1"]


def test_a_file_that_is_no_frame_is_named(tmp_path, capsys) -> None:
    (tmp_path / "a.png").write_bytes(png(speckle(1, 40, 60)))
    (tmp_path / "b.png").write_bytes(b"no frame")
    ((name, pixels, truth),) = frames_without_nerve(tmp_path)
    assert (name, pixels.shape, truth.any()) == (f"without a nerve: {tmp_path.name}", (40, 60), False)
    assert "b.png" in capsys.readouterr().out


def test_a_score_has_the_dice_and_the_reasons_of_the_warnings(monkeypatch) -> None:
    stats = fit_stats(np.stack([image_features(speckle(seed, 96, 128)) for seed in range(20)]))
    monkeypatch.setattr(distribution_shift, "measure_training_frames", lambda rows: stats)
    row = SimpleNamespace(nerve_px=5)

    def network(frame: Frame) -> tuple[np.ndarray, float]:
        probability = (frame.pixels > 100).astype(np.float32) * 0.4
        return probability, float(probability.max())

    config = PostprocessingConfig(min_presence=0.05, min_area_share=0.0)
    scorer = Scorer(network, config, [row])
    nerve = np.zeros((96, 128), np.uint8)
    nerve[20:60, 30:70] = 255
    doubtful = scorer.score(nerve, nerve > 0)
    assert (doubtful["dice"], doubtful["low_confidence"], doubtful["out_of_distribution"]) == (1.0, True, True)
    assert doubtful["expected_dice"] == pytest.approx(0.4, abs=0.01)
    black = scorer.score(np.zeros_like(nerve), nerve > 0)
    assert (black["dice"], black["expected_dice"], black["low_confidence"]) == (0.0, 0.0, True)  # it knows only nerves
    assert not Scorer(network, config, [SimpleNamespace(nerve_px=0)]).score(np.zeros_like(nerve), nerve > 0)[
        "low_confidence"
    ]
