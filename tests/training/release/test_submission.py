"""The submission file, from phantom frames in the competition's layout."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.kaggle_phantom import SOLUTION, score, write_competition
from service.decoding.image_file import decode_image
from service.inference.segmenter import Segmenter
from tests.frames import tiff
from tests.project_copy import nerve
from tests.run_lengths import decode_run_lengths
from training.data.source_ingestion import ingest_source
from training.release import submission
from training.workspace import paths

TEST_FRAMES = 12  # above 9, where the order of numbers and of text differ


@pytest.fixture(scope="module")
def competition(tmp_path_factory) -> Path:
    """The competition's folder: phantom frames with masks of 0 and 255, and test frames without masks."""
    folder = tmp_path_factory.mktemp("competition") / "files"
    write_competition(folder, subjects=2, frames_per_subject=1, test_frames=TEST_FRAMES)
    # The network of these tests finds bright pixels, so the mask of a black frame is empty.
    (folder / "test" / "2.tif").write_bytes(tiff(np.zeros((420, 580), np.uint8)))
    return folder


@pytest.fixture
def project(competition: Path, model_folder: Path, tmp_path: Path, monkeypatch) -> Path:
    """A folder with the competition's ingested frames and a packaged champion."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(model_folder, paths.CHAMPION_FOLDER)
    ingest_source(nerve({"source": "kaggle", "path": str(competition)}), paths.FRAMES)
    return tmp_path


@pytest.mark.slow
def test_the_file_has_one_row_for_each_test_frame_with_the_served_mask(
    project: Path, competition: Path, segmenter: Segmenter, capsys
) -> None:
    submission.main(paths.SUBMISSION)
    with (project / paths.SUBMISSION).open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["img", "pixels"]
    assert [int(number) for number, _ in rows] == list(range(1, TEST_FRAMES + 1))
    for number, pixels in rows:
        served = segmenter.segment(decode_image((competition / "test" / f"{number}.tif").read_bytes())).mask
        assert np.array_equal(decode_run_lengths(pixels, (420, 580)), served)
    assert [number for number, pixels in rows if not pixels] == ["2"]
    assert f"{TEST_FRAMES} frames (the competition has 5508), {TEST_FRAMES - 1} with a nerve" in capsys.readouterr().out


def test_a_submission_is_scored_as_in_the_competition(competition: Path, tmp_path: Path) -> None:
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


def test_write_competition_does_not_overwrite_an_existing_folder(competition: Path) -> None:
    with pytest.raises(FileExistsError, match="files exists"):
        write_competition(competition, subjects=1, frames_per_subject=1, test_frames=1)
    assert len(list((competition / "test").iterdir())) == TEST_FRAMES


def test_the_error_names_a_missing_test_frame(project: Path, competition: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(competition, tmp_path / "broken"))
    (broken / "test" / "7.tif").write_bytes(b"not an image")
    ingest_source(nerve({"source": "kaggle", "path": str(broken), "on_error": "skip"}), paths.FRAMES)
    with pytest.raises(SystemExit, match=r"7\.tif is missing.*left_out\.csv"):
        submission.main(paths.SUBMISSION)
    assert not paths.SUBMISSION.exists()


def test_the_error_without_test_frames_says_what_to_set(project: Path, competition: Path, tmp_path: Path) -> None:
    labelled = Path(shutil.copytree(competition, tmp_path / "labelled"))
    shutil.rmtree(labelled / "test")
    ingest_source(nerve({"source": "kaggle", "path": str(labelled)}), paths.FRAMES)
    with pytest.raises(SystemExit, match=r"no test frame\. Set nerve\.source"):
        submission.main(paths.SUBMISSION)


def test_the_error_without_a_champion_says_how_to_make_one(project: Path) -> None:
    shutil.rmtree(paths.CHAMPION_FOLDER)
    with pytest.raises(SystemExit, match=r"submission: models/champion is missing: make the model folder"):
        submission.main(paths.SUBMISSION)
