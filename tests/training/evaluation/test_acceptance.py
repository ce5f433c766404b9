"""The acceptance command scores a folder of masks, and names every invalid file."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
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
    with pytest.raises(SystemExit, match=r"0003\.png: is missing: images/0003\.png has no mask\. Make it again"):
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


@pytest.fixture
def second_rater(masks: Path, tmp_path: Path) -> Path:
    """Masks of a person who finds no nerve in frame 0003, and marks the others as the first person does."""
    folder = Path(shutil.copytree(masks, tmp_path / "anna"))
    (folder / "0003.png").write_bytes(png(np.zeros_like(LABELS)))
    return folder


def test_people_are_compared_with_each_other_and_with_the_model(frames, masks, second_rater, tmp_path, capsys):
    """The model agrees with the first person, so the mean with people is between 1 and that of people."""
    count = len(list(masks.iterdir()))
    acceptance.main(frames, masks, [second_rater], output=tmp_path / "out")
    lines = {" ".join(line.split()) for line in capsys.readouterr().out.splitlines()}

    def mean(raters: str) -> str:
        (line,) = (line for line in lines if line.startswith(f"| all | {count} | {raters} |"))
        return line.split("|")[4].split()[0]

    people = 1 - 1 / count
    assert mean("frames with anna") == mean("people with people") == f"{people:.3f}"
    assert mean("model with frames") == "1.000"
    assert mean("model with anna") == f"{people:.3f}"
    assert mean("model with people") == f"{(1 + people) / 2:.3f}"
    assert mean("model with people, less people with each other") == f"{(1 - people) / 2:+.3f}"
    table = pd.read_csv(tmp_path / "out/agreement.csv", index_col="frame")
    assert table.loc["images/0003.png", "frames with anna"] == 0
    assert (tmp_path / "out/agreement.png").stat().st_size > 5000


def test_agreement_by_region(frames, masks, second_rater, tmp_path, capsys):
    names = [file.stem for file in sorted(masks.iterdir())]
    regions = ["axillary" if name == "0003" else "interscalene" for name in names]
    pd.DataFrame({"frame": names, "region": regions}).to_csv(tmp_path / "regions.csv", index=False)
    acceptance.main(frames, masks, [second_rater], tmp_path / "regions.csv", tmp_path)
    output = " ".join(capsys.readouterr().out.split())
    assert "| axillary | 1 | people with people | 0.000 (0.000 to 0.000)" in output
    assert f"| interscalene | {len(names) - 1} | people with people | 1.000 (1.000 to 1.000)" in output


def test_a_frame_without_a_region_is_named(frames, masks, second_rater, tmp_path):
    (tmp_path / "regions.csv").write_text("frame,region\n0001,axillary\n")
    with pytest.raises(SystemExit, match=r"regions\.csv has no region of the frame 0002"):
        acceptance.main(frames, masks, [second_rater], tmp_path / "regions.csv", tmp_path)


def test_two_raters_of_one_name_are_refused(frames, masks, second_rater):
    with pytest.raises(SystemExit, match=r"the name 'anna' is taken\. Rename the rater's folder"):
        acceptance.main(frames, masks, [second_rater, second_rater])


def test_a_raters_missing_mask_is_named(frames, masks, second_rater, tmp_path):
    (second_rater / "0003.png").unlink()
    with pytest.raises(SystemExit, match=r"anna/0003\.png: is missing"):
        acceptance.main(frames, masks, [second_rater], output=tmp_path)


def test_a_raters_damaged_mask_is_named(frames, masks, second_rater, tmp_path):
    (second_rater / "0003.png").write_bytes(b"no mask")
    with pytest.raises(SystemExit, match=r"anna/0003\.png: is not a readable mask"):
        acceptance.main(frames, masks, [second_rater], output=tmp_path)


@pytest.mark.parametrize("text", ["name,region\n0001,axillary\n", ""])
def test_a_file_without_regions_is_refused(frames, masks, second_rater, tmp_path, text):
    (tmp_path / "regions.csv").write_text(text)
    with pytest.raises(SystemExit, match=r"regions\.csv is no CSV file with the columns frame and region"):
        acceptance.main(frames, masks, [second_rater], tmp_path / "regions.csv", tmp_path)
