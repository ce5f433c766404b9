"""The measurement of cines: how masks change from frame to frame, and how the nerve does."""

import numpy as np
import pandas as pd
import pytest

from service.inference.segmenter import Segmenter
from training.evaluation.temporal_consistency import SMOOTHINGS, SimulatedCine, score_cine, summarize_consistency


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_the_change_of_a_mask_is_compared_with_the_change_of_the_nerve(model_folder, speckle, smoothing) -> None:
    labels = [np.zeros((100, 120), np.uint8) for _ in range(3)]
    for number, label in enumerate(labels):
        label[20:40, 20 + 10 * number : 40 + 10 * number] = 1
    cine = SimulatedCine([(speckle(1, 100, 120), label) for label in labels])
    scores = pd.DataFrame(score_cine(Segmenter(model_folder), cine, smoothing))
    assert scores["true_change"].tolist() == pytest.approx([np.nan, 0.5, 0.5], nan_ok=True)
    assert scores["change"].tolist() == pytest.approx([np.nan, 0, 0], nan_ok=True)  # all frames are equal


def test_a_faster_probe_leaves_out_frames(speckle) -> None:
    frames = [(speckle(seed, 10, 10), np.full((10, 10), seed % 2, np.uint8)) for seed in range(9)]
    cine = SimulatedCine(frames, step=4)
    assert cine.frame_count == 3
    assert np.array_equal(cine.decode(b"", 2).pixels, frames[8][0])


def test_the_table_counts_only_changes_beyond_those_of_the_nerve() -> None:
    scores = pd.DataFrame(
        {
            "cine": [1, 1, 1, 1],
            "speed": 1,
            "smoothing": "none",
            "dice": [0.8, 0.0, 1.0, 0.0],
            "nerve": [True, True, False, False],
            "mask": [True, True, False, True],
            "confidence": [0.9, 0.1, 0.8, 0.0],
            "change": [np.nan, 0.3, 0.1, 0.0],
            "true_change": [np.nan, 0.1, 0.2, 0.0],
            "seconds": 0.01,
        }
    )
    assert summarize_consistency(scores).loc[0].to_dict() == {
        "speed": "1",
        "smoothing": "none",
        "mean Dice": "0.4500",
        "Dice of 0, frames with a nerve": "0.5000",
        "mask, frames without a nerve": "0.5000",
        "error of the confidence": "0.1000",
        "change of the mask": "0.1333",
        "change of the nerve": "0.1000",
        "change beyond the nerve's": "0.0667",
        "gain in Dice by cine, standard error": "",
        "milliseconds a frame": "10.0",
    }


def test_the_gain_is_compared_cine_by_cine() -> None:
    rows = [(1, "none", 0.5), (2, "none", 0.7), (1, "temporal", 0.6), (2, "temporal", 0.7)]
    scores = pd.DataFrame([{"cine": cine, "smoothing": smoothing, "dice": dice} for cine, smoothing, dice in rows])
    scores = scores.assign(speed=1, nerve=True, mask=True, confidence=0.5, change=0.0, true_change=0.0, seconds=0.01)
    gains = summarize_consistency(scores)["gain in Dice by cine, standard error"]
    assert list(gains) == ["", "+0.0500, 0.0500"]
