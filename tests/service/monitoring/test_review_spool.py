"""The review spool keeps scan areas only, and stays within its limit."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from service.decoding.cropping import Box
from service.decoding.frame import Frame
from service.inference.segmentation_result import FrameResult
from service.monitoring.audit_log import digest
from service.monitoring.prometheus_metrics import SPOOL_REFUSED_TOTAL
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


@pytest.mark.parametrize("area", [Box(0, 0, 160, 120), Box(1, 1, 158, 118)])
def test_a_scan_area_that_leaves_no_room_for_a_banner_is_not_kept(segmenter, speckle, tmp_path, caplog, area) -> None:
    frame = Frame(speckle(1, 120, 160), scan_area=area)
    spool, before = ReviewSpool(tmp_path, 10**6), SPOOL_REFUSED_TOTAL._value.get()
    for _ in range(2):
        spool.keep(FrameResult(frame, segmenter.segment(frame), 0.0))
    assert list(tmp_path.iterdir()) == []
    assert SPOOL_REFUSED_TOTAL._value.get() == before + 2
    assert caplog.text.count("banner") == 1


def test_only_the_services_user_can_read_the_spool(segmenter, speckle, tmp_path, monkeypatch) -> None:
    """Also a folder and files that exist with another mode."""
    folder = tmp_path / "spool"
    folder.mkdir(mode=0o755)
    (folder / "old.frame.png").touch(mode=0o644)
    monkeypatch.setenv("NERVEMASK_SPOOL", str(folder))
    spool = open_review_spool()
    assert spool
    frame = Frame(speckle(1, 120, 160), scan_area=Box(10, 20, 100, 80))
    spool.keep(FrameResult(frame, segmenter.segment(frame), 0.0))
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert len(list(folder.iterdir())) == 3
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_others_can_read_and_that_cannot_be_changed_is_an_error(tmp_path, monkeypatch) -> None:
    def refuse(path: Path, mode: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    tmp_path.chmod(0o777)
    monkeypatch.setenv("NERVEMASK_SPOOL", str(tmp_path))
    monkeypatch.setattr(Path, "chmod", refuse)
    with pytest.raises(PermissionError, match=r"other users can read .* name a new folder inside it"):
        open_review_spool()


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
