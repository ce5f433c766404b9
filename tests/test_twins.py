"""Frames that a net could know from its training."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from tests.frames import png, speckle
from training.scores import groups
from training.sources.layout import FRAMES, Faults, Pair, read_manifest, write
from training.twins import have_twin


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
