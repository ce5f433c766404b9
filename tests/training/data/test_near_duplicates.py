"""Near-duplicates, and the leakage of cross-validation folds."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.frames import png, speckle
from training.data.frame_mask_pair import FrameMaskPair
from training.data.manifest import read_manifest, write_pairs
from training.data.near_duplicates import mark_near_duplicates, measure_leakage
from training.data.source_errors import IngestLog
from training.workspace import paths

FRAMES = 120
BLOCK = np.arange(FRAMES) // 10
FOLD = BLOCK * 5 // 12  # no fold divides a block


def darken_and_shift(pixels: np.ndarray) -> np.ndarray:
    """Return the next frame of a scan: another gain, and the probe a little further."""
    return (np.roll(pixels, 3, axis=1) * 0.7).astype(np.uint8)


def test_frames_of_the_same_scan_are_near_duplicates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scans = [cv2.GaussianBlur(speckle(seed, 210, 290), (0, 0), 12) for seed in range(4)]
    frames = [scans[0], scans[1], darken_and_shift(scans[0]), scans[2], darken_and_shift(scans[1]), scans[3]]
    labels = np.zeros((210, 290), np.uint8)
    pairs = (FrameMaskPair(png(pixels), ".png", labels, "1", number) for number, pixels in enumerate(frames))
    write_pairs(pairs, paths.FRAMES, "synthetic", IngestLog(False))
    rows = read_manifest()
    assert mark_near_duplicates(rows[2:], rows[:2]).tolist() == [True, False, True, False]


def to_thumbnails(frames: np.ndarray) -> np.ndarray:
    """Return the frames, (N, pixels), with mean 0 and norm 1."""
    centred = frames - frames.mean(axis=1, keepdims=True)
    return (centred / np.linalg.norm(centred, axis=1, keepdims=True)).astype(np.float32)


def test_frames_of_a_block_leak_in_random_folds_and_hardly_in_folds_of_whole_blocks() -> None:
    """The ten frames of a block are alike, as those of one sweep are."""
    noise = np.random.default_rng(1).random((FRAMES, 40))
    result = measure_leakage(to_thumbnails(noise + 3 * noise[BLOCK * 10]), FOLD)
    assert result["near_duplicates_random_folds"] > 0.9 and result["near_duplicates"] < 0.05
    assert result["nearest_correlation_random_folds"] > result["nearest_correlation"]


def test_a_frame_repeated_in_another_fold_is_a_near_duplicate() -> None:
    frames = np.random.default_rng(1).random((FRAMES, 400))
    frames[100] = frames[0]
    assert measure_leakage(to_thumbnails(frames), FOLD)["near_duplicates"] == pytest.approx(2 / FRAMES, abs=1e-4)
