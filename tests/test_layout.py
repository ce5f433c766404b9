"""The layout of data/frames, and the stage that fills it: whole or not at all."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.frames import disc, png
from tests.project import nerve, write_nerve
from tests.test_usgra import write_dataset
from training import ingest as stage
from training.ingest import ingest
from training.parameters import ParameterError, candidate
from training.sources.layout import Faults, Pair, SourceError, read_frame, read_labels, read_manifest, write

PHANTOM = {"source": "phantom", "phantom": {"subjects": 2, "frames": 2, "seed": 1}}


def pair(subject: str, number: int, **more) -> Pair:
    labels = np.zeros((20, 30), np.uint8)
    labels[5:10, 5:10] = 1
    return Pair(png(disc(20, 30)), ".png", labels, subject, number, **more)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_the_manifest_is_read_as_it_was_written(tmp_path):
    unlabelled = Pair(png(disc(40, 16)), ".png", None, "test", 1)
    pairs = [pair("1", 1, spacing_mm=0.1), pair("1", 2, vessels=True, licence='a "licence"'), unlabelled]
    rows = write(pairs, tmp_path, "a source, with a comma", Faults(False))
    assert read_manifest(tmp_path) == rows
    assert [(row.spacing_mm, row.vessels, row.nerve_px) for row in rows] == [(0.1, 0, 25), (None, 1, 25), (None, 0, 0)]
    assert (rows[2].mask, rows[2].height, rows[2].width) == ("", 40, 16)


def test_frames_and_labels_are_read_back(tmp_path):
    first = pair("1", 1)
    (row,) = write([first], tmp_path, "s", Faults(False))
    assert (tmp_path / row.frame).read_bytes() == first.frame
    assert np.array_equal(read_frame(tmp_path, row).pixels, disc(20, 30))
    assert np.array_equal(read_labels(tmp_path, row), first.labels)


def test_rows_stand_by_subject_and_number_as_numbers_however_they_come(tmp_path):
    keys = [("test", 1), ("10", 1), ("2", 10), ("2", 9), ("b", 1)]
    rows = write([pair(*key) for key in keys], tmp_path, "s", Faults(False))
    assert [(row.subject, row.number) for row in rows] == [("2", 9), ("2", 10), ("10", 1), ("b", 1), ("test", 1)]


def test_pairs_are_written_as_they_come(tmp_path):
    """However many frames there are, one is held at a time."""
    on_disk = []

    def stream():
        for number in range(3):
            on_disk.append(len(list((tmp_path / "frames").iterdir())))
            yield pair("1", number)

    write(stream(), tmp_path, "s", Faults(False))
    assert on_disk == [0, 1, 2]


def test_a_source_without_a_mask_is_an_error(tmp_path):
    with pytest.raises(SourceError, match="gives no frame with a mask"):
        write([Pair(png(disc(20, 30)), ".png", None, "test", 1)], tmp_path, "s", Faults(False))


def test_phantom_frames_are_ingested(tmp_path):
    rows, faults = ingest(nerve(PHANTOM), tmp_path / "frames")
    assert [(row.subject, row.number) for row in rows] == [("1", 1), ("1", 2), ("2", 1), ("2", 2)]
    assert not faults.listed
    assert all(row.spacing_mm and math.isfinite(row.spacing_mm) for row in rows)


def test_a_source_that_fails_midway_leaves_the_old_frames_as_they_were(tmp_path):
    folder = tmp_path / "frames"
    dataset = write_dataset(tmp_path / "dataset")
    chosen = {"source": "usgra", "path": str(dataset)}
    ingest(nerve(chosen), folder)
    before = contents(folder)

    last = dataset / "images/0012.png"
    last.write_bytes(last.read_bytes()[:100])
    shutil.copy(dataset / "images/0002.png", dataset / "images/0001.png")
    with pytest.raises(SourceError, match=r"images/0012.png"):
        ingest(nerve(chosen), folder)
    assert contents(folder) == before

    rows, _ = ingest(nerve(chosen | {"on_fault": "leave_out"}), folder)
    assert len(rows) == 11, "and the next try is not disturbed by the last one's remains"
    assert "frames/usgra_12.png" not in contents(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": "mri"}, r"params.yaml: nerve.source: Input should be 'phantom', 'usgra' or 'kaggle'"),
        ({"source": "kaggle"}, "nerve.path is empty: Kaggle's files cannot be fetched without an account"),
        ({"on_fault": "skip"}, r"params.yaml: nerve.on_fault: Input should be 'stop' or 'leave_out'"),
        (
            {"phantom": {"subjects": "two", "frames": 2, "seed": 1}},
            "nerve.phantom.subjects: .* valid integer",
        ),
        ({"refit": True}, r"nerve.refit: Input should be a valid list"),
        ({"race": []}, r"nerve.race: List should have at least 1 item"),
        ({"race": ["lite"]}, r"params.yaml: nerve: .*race: unets has no lite; it has lecture, light, deep, large"),
    ],
)
def test_a_parameter_that_cannot_be_used_is_named(tmp_path, change, message):
    with pytest.raises(ParameterError, match=message):
        ingest(nerve(PHANTOM | change), tmp_path / "frames")
    assert not (tmp_path / "frames").exists()


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("input", {"height": 161}, r"nerve.unets.light: .*161x224 cannot be halved 5 times, take multiples of 32"),
        ("net", {"heads": ["presence"]}, r'nerve.unets.light.net: .*heads: "mask" is always one of them'),
        ("recipe", {"average": 1.5}, r"nerve.unets.light.recipe.average: Input should be less than 1"),
    ],
)
def test_a_net_that_cannot_be_trained_is_named(tmp_path, monkeypatch, section, change, message):
    light = nerve({}).unets["light"]
    write_nerve(tmp_path, {"race": ["light"], "unets": {"light": light | {section: light[section] | change}}})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParameterError, match=message):
        candidate("light")


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """An experiment's copy of a project, as DVC runs stages in: the data set lies beside the original's files."""
    write_dataset(tmp_path / "original/sets/usgra")
    copy = tmp_path / "copy"
    copy.mkdir()
    write_nerve(copy, {"source": "usgra", "path": "sets/usgra"})
    monkeypatch.chdir(copy)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "original"))
    return copy


def test_a_relative_path_starts_at_the_projects_root(project, capsys):
    stage.main()
    assert len(read_manifest(project / "data/frames")) == 12
    assert "12 frames with masks of unrecorded subjects, 0 without a nerve" in capsys.readouterr().out


def test_the_stage_ends_with_the_message_alone(project, tmp_path):
    (tmp_path / "original/sets/usgra/masks/0003.png").unlink()
    with pytest.raises(SystemExit, match=r"^ingest: images/0003.png: is a frame without a mask. Copy its mask too"):
        stage.main()
