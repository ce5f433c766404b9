"""The review spool keeps scan areas only, and stays within its limit."""

import cv2
import numpy as np
import pytest

from service.decoding.cropping import Box
from service.decoding.frame import Frame
from service.inference.results import FrameResult
from service.monitoring.audit_log import digest
from service.monitoring.review_spool import ReviewSpool, open_review_spool


def test_the_spool_keeps_the_scan_area_and_stays_within_its_limit(segmenter, tmp_path) -> None:
    max_bytes = 400_000
    spool = ReviewSpool(tmp_path, max_bytes)
    for seed in range(30):
        pixels = np.random.default_rng(seed).integers(0, 256, (120, 160), np.uint8)
        frame = Frame(pixels, scan_area=Box(10, 20, 100, 80))
        spool.keep(FrameResult(frame, segmenter.segment(frame), 0.0))
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= max_bytes
    picture = cv2.imread(str(tmp_path / f"{digest(pixels)}.frame.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(picture, frame.scan_pixels)
    assert (tmp_path / f"{digest(pixels)}.mask.png").exists()


def test_a_frame_with_an_unknown_scan_area_is_not_kept(segmenter, speckle, tmp_path) -> None:
    frame = Frame(speckle(1))
    ReviewSpool(tmp_path, 10**6).keep(FrameResult(frame, segmenter.segment(frame), 0.0))
    assert list(tmp_path.iterdir()) == []


def test_the_environment_configures_the_spool(monkeypatch, tmp_path) -> None:
    monkeypatch.delenv("NERVEMASK_SPOOL", raising=False)
    assert open_review_spool() is None
    monkeypatch.setenv("NERVEMASK_SPOOL", str(tmp_path / "spool"))
    monkeypatch.setenv("NERVEMASK_SPOOL_MIB", "3")
    spool = open_review_spool()
    assert spool and spool.max_bytes == 3 * 2**20 and (tmp_path / "spool").stat().st_mode & 0o777 == 0o700
    monkeypatch.setenv("NERVEMASK_SPOOL_MIB", "much")
    with pytest.raises(ValueError, match="NERVEMASK_SPOOL_MIB must be a whole number"):
        open_review_spool()
