"""Masks of labelled frames, scored as they lie in a folder."""

from pathlib import Path

import numpy as np
import pytest

from tests.frames import png
from tests.test_usgra import LABELS, write_dataset
from training import acceptance
from training.sources.layout import NERVE


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "frames")


@pytest.fixture
def masks(frames: Path, tmp_path: Path) -> Path:
    """Masks as the service draws them, each the truth."""
    folder = tmp_path / "masks"
    folder.mkdir()
    for frame in (frames / "images").iterdir():
        (folder / frame.name).write_bytes(png(np.where(LABELS == NERVE, 255, 0).astype(np.uint8)))
    return folder


def test_the_truth_scores_1_and_nothing_is_wrong_with_it(frames, masks, capsys):
    acceptance.main(frames, masks)
    said = capsys.readouterr().out
    number = len(list(masks.iterdir()))
    assert f"| all            | {number}       | 1.000 (1.000 to 1.000)" in said
    assert "what" not in said


def test_a_lost_nerve_lowers_the_mean_and_is_named(frames, masks, capsys):
    number = len(list(masks.iterdir()))
    (masks / "0003.png").write_bytes(png(np.zeros_like(LABELS)))
    acceptance.main(frames, masks)
    said = capsys.readouterr().out
    assert f"| {1 - 1 / number:.3f} (" in said
    assert f"| missed | 1 of {number} " in said.replace("  ", " ")
    assert "images/0003.png" in said


def test_a_mask_that_is_not_there_is_named(frames, masks):
    (masks / "0003.png").unlink()
    with pytest.raises(SystemExit, match=r"0003\.png: is missing: images/0003\.png has no mask\. Ask for it"):
        acceptance.main(frames, masks)


def test_a_mask_of_another_size_is_named(frames, masks):
    (masks / "0003.png").write_bytes(png(np.zeros((63, 48), np.uint8)))
    with pytest.raises(SystemExit, match=r"0003\.png: is 48x63 pixels, its frame 48x64"):
        acceptance.main(frames, masks)


def test_masks_may_be_labels_as_the_frames_own_are(frames, capsys):
    acceptance.main(frames, frames / "masks")
    assert "| 1.000 (1.000 to 1.000)" in capsys.readouterr().out


def test_what_is_no_mask_is_named(frames):
    with pytest.raises(SystemExit, match=r"0001\.png: holds other labels than 0, 1 and 2, or 0 and 255"):
        acceptance.main(frames, frames / "images")


def test_a_folder_that_is_not_there_is_named(frames, tmp_path):
    with pytest.raises(SystemExit, match=r"nowhere is no folder: .*service\.client"):
        acceptance.main(frames, tmp_path / "nowhere")


def test_a_pair_that_cannot_be_read_ends_it_or_the_mean_would_be_of_fewer(frames, masks):
    (frames / "masks/0003.png").write_bytes(b"no mask")
    with pytest.raises(SystemExit, match=r"masks/0003.png: is no readable mask .*remove the pair\.$"):
        acceptance.main(frames, masks)
