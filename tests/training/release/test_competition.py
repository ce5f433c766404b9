"""From the competition's files to its submission file, on frames of its size, in its layout."""

import csv
import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from skimage.io import imread

from tests.frames import disc, tiff
from tests.project_copy import project_copy, run, run_stages, toy
from tests.run_lengths import decode_run_lengths
from training.evaluation.segmentation_metrics import dice

pytestmark = pytest.mark.training

TEST_FRAMES = 5
NERVE_GREY = 150  # the speckle is darker


@pytest.fixture
def competition(tmp_path: Path) -> Path:
    """Twelve subjects with four frames each. Two of the four show a nerve that is bright enough for a toy network."""
    folder, rng = tmp_path / "competition", np.random.default_rng(1)
    for name in ("train", "test"):
        (folder / name).mkdir(parents=True)

    def frame(nerve: bool) -> np.ndarray:
        across, down = rng.uniform(0.3, 0.7, 2) if nerve else (-1, -1)
        return disc(420, 580, across, down, seed=int(rng.integers(1000)))

    for subject, number in product(range(1, 13), range(1, 5)):
        pixels = frame(nerve=number % 2 == 1)
        (folder / "train" / f"{subject}_{number}.tif").write_bytes(tiff(pixels))
        (folder / "train" / f"{subject}_{number}_mask.tif").write_bytes(tiff(np.uint8(255) * (pixels > NERVE_GREY)))
    for number in range(1, TEST_FRAMES + 1):
        (folder / "test" / f"{number}.tif").write_bytes(tiff(frame(nerve=number > 1)))
    return folder


@pytest.fixture
def project(tmp_path: Path, competition: Path) -> Path:
    """A project with one toy network and the competition's frames."""
    parameters = toy(epochs=2)
    parameters["nerve"] |= {"source": "kaggle", "path": str(competition)}
    return project_copy(tmp_path / "project", parameters)


def test_the_submission_has_a_row_for_each_test_frame(project: Path, competition: Path) -> None:
    run_stages(project, "package")
    evaluations = json.loads((project / "reports/candidates/champion.json").read_text())["candidates"]
    assert evaluations["toy"]["validation"]["frames"] == 8
    assert json.loads((project / "models/champion/card.json").read_text())["refit"]
    run(project, "python", "-m", "training.release.submission")
    with (project / "reports/submission.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["img", "pixels"]
    assert [int(number) for number, _ in rows] == list(range(1, TEST_FRAMES + 1))
    for number, pixels in rows:
        truth = imread(competition / "test" / f"{number}.tif") > NERVE_GREY
        assert dice(decode_run_lengths(pixels, (420, 580)) > 0, truth) > 0.7
