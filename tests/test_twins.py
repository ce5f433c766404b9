"""Frames that a net could know from its training."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from tests.frames import png, speckle
from training.scores import groups
from training.sources.layout import FRAMES, Faults, Pair, read_manifest, write
from training.twins import have_twin, leakage


def darker_and_moved(pixels: np.ndarray) -> np.ndarray:
    """The next frame of a scan: another gain, the probe a little further."""
    return (np.roll(pixels, 3, axis=1) * 0.7).astype(np.uint8)


def test_a_neighbour_in_a_scan_is_a_twin_and_another_scan_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    scans = [cv2.GaussianBlur(speckle(seed, 210, 290), (0, 0), 12) for seed in range(4)]
    drawn = [scans[0], scans[1], darker_and_moved(scans[0]), scans[2], darker_and_moved(scans[1]), scans[3]]
    labels = np.zeros((210, 290), np.uint8)
    write((Pair(png(p), ".png", labels, "1", n) for n, p in enumerate(drawn)), FRAMES, "planted", Faults(False))
    rows = read_manifest(FRAMES)
    assert have_twin(rows[2:], rows[:2]).tolist() == [True, False, True, False]


def test_frames_with_a_twin_have_a_row_of_their_own() -> None:
    scores = pd.DataFrame({"dice": [0.9, 0.5, 0.7], "nerve": True, "nerve_share": 0.1, "size": "2x2"})
    assert "without one" not in groups(scores)
    told = groups(scores.assign(twin=[True, False, False]))
    assert told["with a near twin in training"]["dice"] == 0.9
    assert told["without one"]["dice"] == 0.6


def of_length_one(looked: np.ndarray) -> np.ndarray:
    centred = looked - looked.mean(axis=1, keepdims=True)
    return (centred / np.linalg.norm(centred, axis=1, keepdims=True)).astype(np.float32)


BLOCK = np.arange(120) // 10
FOLD = BLOCK * 5 // 12  # no block is divided


def test_neighbouring_frames_leak_at_random_and_hardly_in_blocks() -> None:
    """Frames of a block of ten are alike, as those of one sweep are."""
    steps = np.random.default_rng(1).random((120, 40))
    found = leakage(of_length_one(steps + 3 * steps[BLOCK * 10]), FOLD)
    assert found["twins_at_random"] > 0.9 and found["twins"] < 0.05
    assert found["likest_at_random"] > found["likest"]


def test_a_frame_repeated_in_another_fold_is_seen() -> None:
    looked = np.random.default_rng(1).random((120, 400))
    looked[100] = looked[0]
    assert leakage(of_length_one(looked), FOLD)["twins"] == pytest.approx(2 / 120, abs=1e-4)
