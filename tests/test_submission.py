"""The submission file, from a phantom laid out as the competition is."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.competition import SOLUTION, lay_out, score
from service.segmenter import Segmenter
from tests.frames import tiff
from tests.project import nerve
from tests.test_shapes import from_run_lengths
from training import submission
from training.ingest import ingest
from training.sources.layout import FRAMES

TEST_FRAMES = 12  # past 9: numbers are no words


@pytest.fixture(scope="module")
def competition(tmp_path_factory) -> Path:
    """The competition's folder: frames of the phantom with masks of 0 and 255, and test frames without."""
    folder = tmp_path_factory.mktemp("competition") / "files"
    lay_out(folder, subjects=2, frames=1, tests=TEST_FRAMES)
    # The champion of these tests knows bright from dark: here it finds nothing.
    (folder / "test" / "2.tif").write_bytes(tiff(np.zeros((420, 580), np.uint8)))
    return folder


@pytest.fixture
def project(competition: Path, model_folder: Path, tmp_path: Path, monkeypatch) -> Path:
    """A folder in which the competition was ingested and a champion packaged."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(model_folder, submission.FOLDER)
    ingest(nerve({"source": "kaggle", "path": str(competition)}), FRAMES)
    return tmp_path


def test_a_row_a_test_frame_with_the_mask_that_is_served(
    project: Path, competition: Path, segmenter: Segmenter, capsys
) -> None:
    from service.frame import decode

    submission.main(submission.SUBMISSION)
    with (project / submission.SUBMISSION).open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["img", "pixels"]
    assert [int(number) for number, _ in rows] == list(range(1, TEST_FRAMES + 1))
    for number, pixels in rows:
        served = segmenter.segment(decode((competition / "test" / f"{number}.tif").read_bytes())).mask
        assert np.array_equal(from_run_lengths(pixels, (420, 580)), served)
    assert [number for number, pixels in rows if not pixels] == ["2"]
    assert f"{TEST_FRAMES} frames; the competition has 5508, {TEST_FRAMES - 1} with a nerve" in capsys.readouterr().out


def test_a_submission_has_the_competitions_score(competition: Path, tmp_path: Path) -> None:
    solution = pd.read_csv(competition / SOLUTION, keep_default_na=False)
    with_nerve = solution["pixels"] != ""
    assert 0 < with_nerve.sum() < TEST_FRAMES
    assert score(competition / SOLUTION, competition / SOLUTION).eq(1).all()
    empty = solution.assign(pixels="")
    empty.to_csv(tmp_path / "empty.csv", index=False)
    assert (score(competition / SOLUTION, tmp_path / "empty.csv") == 1).tolist() == (~with_nerve).tolist()
    empty[1:].to_csv(tmp_path / "short.csv", index=False)
    with pytest.raises(ValueError, match=r"short\.csv has other rows than the 12"):
        score(competition / SOLUTION, tmp_path / "short.csv")


def test_a_folder_that_is_there_is_not_overwritten(competition: Path) -> None:
    with pytest.raises(FileExistsError, match="files is there already"):
        lay_out(competition, subjects=1, frames=1, tests=1)
    assert len(list((competition / "test").iterdir())) == TEST_FRAMES


def test_a_missing_test_frame_is_named(project: Path, competition: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(competition, tmp_path / "broken"))
    (broken / "test" / "7.tif").write_bytes(b"no frame")
    ingest(nerve({"source": "kaggle", "path": str(broken), "on_fault": "leave_out"}), FRAMES)
    with pytest.raises(SystemExit, match=r"7\.tif is missing.*left_out\.csv"):
        submission.main(submission.SUBMISSION)
    assert not submission.SUBMISSION.exists()


def test_without_test_frames_the_remedy_is_named(project: Path, competition: Path, tmp_path: Path) -> None:
    labelled = Path(shutil.copytree(competition, tmp_path / "labelled"))
    shutil.rmtree(labelled / "test")
    ingest(nerve({"source": "kaggle", "path": str(labelled)}), FRAMES)
    with pytest.raises(SystemExit, match=r"no test frame: set nerve\.source"):
        submission.main(submission.SUBMISSION)


def test_without_a_champion_the_remedy_is_named(project: Path) -> None:
    shutil.rmtree(submission.FOLDER)
    with pytest.raises(SystemExit, match=r"submission: models/champion is missing: make the model folder"):
        submission.main(submission.SUBMISSION)
