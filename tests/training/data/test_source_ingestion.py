"""The stage ingest: data/frames is complete or unchanged."""

import math
import shutil
from importlib import import_module
from pathlib import Path
from typing import get_args

import pytest

from tests.project_copy import nerve, write_nerve
from tests.training.data.sources.usgra_dataset import write_dataset
from training.data import ingest
from training.data.manifest import read_manifest
from training.data.source_errors import SourceError
from training.data.source_ingestion import ingest_source
from training.workspace.nerve_parameters import Source
from training.workspace.parameter_validation import ParameterError

PHANTOM = {
    "source": "phantom",
    "phantom": {"subjects": 2, "frames": 2, "seed": 1, "difficulty": "easy", "consoles": ["standard"]},
}


def contents(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("source", sorted(set(get_args(Source)) - {"phantom"}))
def test_each_registered_source_is_a_module_with_the_function_pairs(source):
    assert callable(import_module(f"training.data.sources.{source}").pairs)


def test_phantom_frames_are_ingested(tmp_path):
    rows, errors = ingest_source(nerve(PHANTOM), tmp_path / "frames")
    assert [(row.subject, row.number) for row in rows] == [("1", 1), ("1", 2), ("2", 1), ("2", 2)]
    assert not errors.left_out
    assert all(row.spacing_mm and math.isfinite(row.spacing_mm) for row in rows)


def test_kaggle_requires_a_path(tmp_path):
    with pytest.raises(ParameterError, match=r"nerve.path is empty, and Kaggle's files cannot be downloaded without"):
        ingest_source(nerve({"source": "kaggle"}), tmp_path / "frames")
    assert not (tmp_path / "frames").exists()


def test_an_error_leaves_the_old_frames_unchanged(tmp_path):
    folder = tmp_path / "frames"
    dataset = write_dataset(tmp_path / "dataset")
    parameters = {"source": "usgra", "path": str(dataset)}
    ingest_source(nerve(parameters), folder)
    before = contents(folder)

    last = dataset / "images/0012.png"
    last.write_bytes(last.read_bytes()[:100])
    shutil.copy(dataset / "images/0002.png", dataset / "images/0001.png")
    with pytest.raises(SourceError, match=r"images/0012.png"):
        ingest_source(nerve(parameters), folder)
    assert contents(folder) == before

    rows, _ = ingest_source(nerve(parameters | {"on_error": "skip"}), folder)
    assert len(rows) == 11, "the remains of the failed ingest disturb the next one"
    assert "frames/usgra_12.png" not in contents(folder)


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A copy of a project, in which DVC runs an experiment's stages; the data set is in the original project."""
    write_dataset(tmp_path / "original/sets/usgra")
    copy = tmp_path / "copy"
    copy.mkdir()
    write_nerve(copy, {"source": "usgra", "path": "sets/usgra"})
    monkeypatch.chdir(copy)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "original"))
    return copy


def test_a_relative_path_starts_at_the_projects_root(project, capsys):
    ingest.main()
    assert len(read_manifest(project / "data/frames")) == 12
    assert "12 frames with masks of unrecorded subjects, 0 without a nerve" in capsys.readouterr().out


def test_the_stage_exits_with_the_message_only(project, tmp_path):
    (tmp_path / "original/sets/usgra/masks/0003.png").unlink()
    message = r"^ingest: images/0003.png: is a frame without a mask. Add its mask.* Or set nerve.on_error to skip"
    with pytest.raises(SystemExit, match=message):
        ingest.main()
