"""The acceptance command scores a folder of masks, and names every invalid file."""

from pathlib import Path

import numpy as np
import pytest

from tests.frames import png
from tests.training.data.sources.usgra_dataset import LABELS, write_dataset
from training.data.frame_mask_pair import NERVE
from training.evaluation import acceptance


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "frames")


@pytest.fixture
def masks(frames: Path, tmp_path: Path) -> Path:
    """Masks with the values of the service's masks, each equal to the truth."""
    folder = tmp_path / "masks"
    folder.mkdir()
    for frame in (frames / "images").iterdir():
        (folder / frame.name).write_bytes(png(np.where(LABELS == NERVE, 255, 0).astype(np.uint8)))
    return folder


def test_masks_that_equal_the_truth_score_1_without_failures(frames, masks, capsys):
    acceptance.main(frames, masks)
    output = capsys.readouterr().out
    assert f"| all | {len(list(masks.iterdir()))} | 1.000 (1.000 to 1.000)" in " ".join(output.split())
    assert "failure" not in output


def test_an_empty_mask_lowers_the_mean_and_is_listed(frames, masks, capsys):
    count = len(list(masks.iterdir()))
    (masks / "0003.png").write_bytes(png(np.zeros_like(LABELS)))
    acceptance.main(frames, masks)
    output = capsys.readouterr().out
    assert f"| {1 - 1 / count:.3f} (" in output
    assert f"| missed | 1 of {count} " in " ".join(output.split())
    assert "images/0003.png" in output


def test_masks_can_be_labels_as_in_the_data_set(frames, capsys):
    acceptance.main(frames, frames / "masks")
    assert "| 1.000 (1.000 to 1.000)" in capsys.readouterr().out


def test_a_missing_mask_is_named(frames, masks):
    (masks / "0003.png").unlink()
    with pytest.raises(SystemExit, match=r"0003\.png: is missing: images/0003\.png has no mask\. Request it"):
        acceptance.main(frames, masks)


def test_a_mask_of_another_size_is_named(frames, masks):
    (masks / "0003.png").write_bytes(png(np.zeros((63, 48), np.uint8)))
    with pytest.raises(SystemExit, match=r"0003\.png: has 48x63 pixels, but its frame has 48x64"):
        acceptance.main(frames, masks)


def test_a_file_that_is_not_a_mask_is_named(frames):
    with pytest.raises(SystemExit, match=r"0001\.png: has other labels than 0, 1 and 2, or 0 and 255"):
        acceptance.main(frames, frames / "images")


def test_a_missing_folder_is_named(frames, tmp_path):
    with pytest.raises(SystemExit, match=r"nowhere is not a folder\. .*service\.client"):
        acceptance.main(frames, tmp_path / "nowhere")


def test_an_invalid_pair_ends_the_command(frames, masks):
    """Without the pair, the mean would be of fewer frames."""
    (frames / "masks/0003.png").write_bytes(b"no mask")
    with pytest.raises(SystemExit, match=r"masks/0003.png: is not a readable mask .*remove the pair\.$"):
        acceptance.main(frames, masks)
