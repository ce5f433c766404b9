"""A bit that flips in DVC's cache or in the project, with the file's time kept: DVC does not notice, the stage does.

`python -m training.workspace.repair` and `dvc repro` bring the file back.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.project_copy import clean_environment, project_copy, run, toy
from tests.training.workspace.test_output_checksums import flip_bit

pytestmark = pytest.mark.training

FRAME = "data/frames/frames/1_1.png"
REPAIR = ("python", "-m", "training.workspace.repair")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose frames and split are made."""
    folder = project_copy(tmp_path_factory.mktemp("project"), toy(epochs=1))
    run(folder, "dvc", "repro", "split")
    return folder


def cached(project: Path, file: Path) -> Path:
    """Return DVC's copy of a file."""
    content = file.read_bytes()
    return next(path for path in (project / ".dvc/cache/files/md5").glob("*/*") if path.read_bytes() == content)


def run_split(project: Path) -> subprocess.CompletedProcess[str]:
    """Run the stage split once more, with its inputs as they are."""
    command = ["dvc", "repro", "--force", "--single-item", "split"]
    return subprocess.run(command, cwd=project, env=clean_environment(), capture_output=True, text=True)


@pytest.mark.parametrize("place", ["cache", "project"])
def test_a_flipped_bit_is_found_and_repaired(project: Path, place: str) -> None:
    frame = project / FRAME
    whole = frame.read_bytes()
    if place == "cache":
        copy = cached(project, frame)
        mode = copy.stat().st_mode
        copy.chmod(0o600)
        flip_bit(copy)
        os.chmod(copy, mode)
        shutil.rmtree(project / "data/frames")
        run(project, "dvc", "checkout", "ingest")
    else:
        flip_bit(frame)
    assert frame.read_bytes() != whole
    assert "up to date" in run(project, "dvc", "repro", "split")  # DVC does not notice

    failed = run_split(project)
    assert failed.returncode != 0
    assert f"{FRAME} is not as its stage wrote it" in failed.stderr
    assert " ".join(REPAIR) in failed.stderr

    assert "removed data/frames\n" in run(project, *REPAIR)
    run(project, "dvc", "repro", "split")
    assert frame.read_bytes() == whole
    assert run_split(project).returncode == 0
    assert run(project, *REPAIR) == "Nothing is damaged.\n"
    shutil.rmtree(project / "data/frames")
    run(project, "dvc", "checkout", "ingest")
    assert frame.read_bytes() == whole


def test_the_damaged_list_of_a_folder_s_files_is_repaired(project: Path) -> None:
    listing = next((project / ".dvc/cache/files/md5").glob("*/*.dir"))
    listing.chmod(0o600)
    flip_bit(listing)
    assert f"removed {listing}\n" in run(project, *REPAIR)
    run(project, "dvc", "repro", "split")
    assert run(project, *REPAIR) == "Nothing is damaged.\n"
    assert "up to date" in run(project, "dvc", "status", "split")
