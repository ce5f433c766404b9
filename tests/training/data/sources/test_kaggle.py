"""The Kaggle competition's files: read from a folder or a zip file; an error names each invalid file."""

import csv
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.frames import disc, tiff
from tests.project_copy import nerve
from training.data.manifest import read_frame, read_labels, read_manifest
from training.data.source_errors import IngestLog, SourceError
from training.data.source_ingestion import ingest_source
from training.data.sources import kaggle
from training.workspace.nerve_parameters import NerveParameters

CASES = Path(__file__).parents[3] / "cases"
STEMS = [f"1_{n}" for n in range(1, 15)] + ["2_1", "2_2", "10_1"]
NERVE_PIXELS = (slice(100, 200), slice(300, 400))  # in the mask of every even frame


def mask(grey: int = 255, height: int = 420, width: int = 580) -> np.ndarray:
    pixels = np.zeros((height, width), np.uint8)
    pixels[NERVE_PIXELS] = grey
    return pixels


@pytest.fixture(scope="module")
def shared_competition(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("kaggle")
    for name in ("train", "test"):
        (folder / name).mkdir()
    frame = disc(420, 580)
    for n, stem in enumerate(STEMS):
        (folder / "train" / f"{stem}.tif").write_bytes(tiff(np.roll(frame, 7 * n, axis=1)))
        (folder / "train" / f"{stem}_mask.tif").write_bytes(tiff(mask(255 * (n % 2))))
    for number in (1, 2):
        (folder / "test" / f"{number}.tif").write_bytes(tiff(np.roll(frame, number, axis=0)))
    return folder


@pytest.fixture
def competition(shared_competition, tmp_path) -> Path:
    """A copy that a test can break."""
    return shutil.copytree(shared_competition, tmp_path / "kaggle")


def zip_folder(folder: Path) -> Path:
    return Path(shutil.make_archive(str(folder), "zip", folder))


def parameters(path: Path, on_error: str = "stop") -> NerveParameters:
    return nerve({"source": "kaggle", "path": str(path), "on_error": on_error})


def read(path: Path, skip: bool = False) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the files of the frames, and the files left out with the reason."""
    log = IngestLog(skip)
    return [pair.source_name for pair in kaggle.pairs(path, log)], log.left_out


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def make_unreadable(file: Path) -> None:
    """Leave a name without a file, as a broken disk or network share does."""
    file.unlink()
    file.symlink_to("nowhere")


def copy_to(file: Path, name: str) -> None:
    (file.parent / name).parent.mkdir(exist_ok=True)
    shutil.copy(file, file.parent / name)


# Each kind of invalid pair: how to break it (frame, mask), the reason in the message, and the files named.
INVALID_PAIRS: dict[str, tuple[Callable[[Path, Path], object], str, list[str]]] = {
    "truncated frame": (lambda f, m: truncate(f), "is not a readable frame ", ["{}.tif"]),
    "empty frame": (lambda f, m: f.write_bytes(b""), "is not a readable frame", ["{}.tif"]),
    "text as a frame": (lambda f, m: f.write_text("a frame"), "is not a readable frame", ["{}.tif"]),
    "unreadable frame": (lambda f, m: make_unreadable(f), "cannot be read", ["{}.tif"]),
    "small frame": (
        lambda f, m: f.write_bytes(tiff(disc(100, 100))),
        "has 100x100 pixels, but the data set's frames have 580x420",
        ["{}.tif"],
    ),
    "rotated frame": (lambda f, m: f.write_bytes(tiff(disc(580, 420))), "has 420x580 pixels", ["{}.tif"]),
    "truncated mask": (lambda f, m: truncate(m), "is not a readable frame ", ["{}_mask.tif"]),
    "small mask": (lambda f, m: m.write_bytes(tiff(mask(255, 419))), "has 580x419 pixels", ["{}_mask.tif"]),
    "grey mask": (lambda f, m: m.write_bytes(tiff(mask(128))), "has the grey value 128, but", ["{}_mask.tif"]),
    "mask without a frame": (lambda f, m: f.unlink(), "is a mask without a frame", ["{}_mask.tif"]),
    "frame without a mask": (lambda f, m: m.unlink(), "is a frame without a mask", ["{}.tif"]),
    "the same name in another case": (
        lambda f, m: copy_to(f, f"{f.stem}.TIF"),
        "has the same subject and number as another file",
        ["{}.tif", "{}.TIF", "{}_mask.tif"],
    ),
    "the same name in another folder": (
        lambda f, m: copy_to(m, f"more/{m.name}"),
        "has the same subject and number as another file",
        ["{}.tif", "{}_mask.tif", "more/{}_mask.tif"],
    ),
    "leading zeros": (
        lambda f, m: copy_to(f, f"0{f.name}"),
        "has the same subject and number as another file",
        ["{}.tif", "0{}.tif", "{}_mask.tif"],
    ),
}


def break_pair(folder: Path, kind: str, stem: str) -> list[str]:
    """Break a pair; return the files that must be named."""
    break_files, _, files = INVALID_PAIRS[kind]
    break_files(folder / "train" / f"{stem}.tif", folder / "train" / f"{stem}_mask.tif")
    return [f"train/{file.format(stem)}" for file in files]


@pytest.mark.parametrize("kind", INVALID_PAIRS)
def test_an_invalid_pair_stops_with_a_message_that_names_the_file_and_the_remedies(competition, kind):
    files = break_pair(competition, kind, "1_2")
    with pytest.raises(SourceError, match=INVALID_PAIRS[kind][1]) as raised:
        read(competition)
    assert raised.value.file in files
    assert str(raised.value).startswith(raised.value.file)
    own_remedy, hint, _ = raised.value.remedy.partition("Or set nerve.on_error to skip in params.yaml")
    assert own_remedy and hint


def test_skip_lists_all_invalid_pairs_and_keeps_the_valid_ones(competition, tmp_path):
    broken = dict(zip(INVALID_PAIRS, STEMS, strict=False))
    expected = {file for kind, stem in broken.items() for file in break_pair(competition, kind, stem)}
    out = tmp_path / "frames"
    ingest_source(parameters(competition, "skip"), out)

    with (out / "left_out.csv").open(newline="") as file:
        left_out = {row["file"]: row["reason"] for row in csv.DictReader(file)}
    assert set(left_out) == expected
    assert all(left_out.values())
    labelled = [row for row in read_manifest(out) if row.mask]
    assert [f"{row.subject}_{row.number}" for row in labelled] == STEMS[len(INVALID_PAIRS) :]


def test_skip_is_an_error_if_no_pair_remains(competition, tmp_path):
    for file in (competition / "train").glob("*_mask.tif"):
        file.write_bytes(b"no mask")
    message = r"no frame with a mask \(17 files left out; the first: train/1_1_mask.tif is not a readable frame"
    with pytest.raises(SourceError, match=message):
        ingest_source(parameters(competition, "skip"), tmp_path / "frames")
    assert not (tmp_path / "frames").exists()


@pytest.mark.parametrize("kind", ["missing", "empty", "test frames only", "other files", "no zip", "truncated zip"])
def test_an_error_names_a_path_without_the_competition(competition, tmp_path, kind):
    path = tmp_path / "path"
    if kind in ("empty", "other files"):
        path.mkdir()
    if kind == "other files":
        (path / "notes.txt").write_text("no frames")
    elif kind == "test frames only":
        shutil.copytree(competition / "test", path / "test")
    elif kind == "no zip":
        path.write_text("a login page")
    elif kind == "truncated zip":
        path = zip_folder(competition)
        truncate(path)
    reasons = {"missing": "is neither a folder nor a zip file"}
    reasons |= dict.fromkeys(["no zip", "truncated zip"], "is not a complete zip file")
    with pytest.raises(SourceError, match=reasons.get(kind, "has no file S_N.tif")) as raised:
        read(path, skip=True)
    assert raised.value.file == str(path)


def test_many_unpaired_files_mean_an_incomplete_data_set(competition):
    for file in list((competition / "train").glob("1_*_mask.tif")):
        file.unlink()
    with pytest.raises(SourceError, match="is incomplete: it has 17 frames and 3 masks, 14 of them unpaired"):
        read(competition)
    frames, left_out = read(competition, skip=True)
    assert [file for file in frames if file.startswith("train")] == ["train/10_1.tif", "train/2_1.tif", "train/2_2.tif"]
    assert len(left_out) == 1 + 14, "the data set and each unpaired frame"


def contents(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_zip_file_gives_the_same_bytes_as_its_folder(competition, tmp_path):
    ingest_source(parameters(competition), tmp_path / "folder")
    ingest_source(parameters(zip_folder(competition)), tmp_path / "zip")
    assert contents(tmp_path / "folder") == contents(tmp_path / "zip")


def test_frame_files_are_unchanged_and_masks_become_labels(competition, tmp_path):
    rows, _ = ingest_source(parameters(competition), tmp_path / "frames")
    row = next(row for row in rows if (row.subject, row.number) == ("1", 2))
    assert (tmp_path / "frames" / row.frame).read_bytes() == (competition / "train/1_2.tif").read_bytes()
    assert np.array_equal(read_labels(row, tmp_path / "frames"), mask(1))
    assert read_frame(row, tmp_path / "frames").pixels.shape == (row.height, row.width) == (420, 580)
    assert (row.nerve_px, row.vessels, row.spacing_mm) == (100 * 100, 0, None)


def test_test_frames_become_rows_without_a_mask(competition, tmp_path):
    rows, _ = ingest_source(parameters(competition), tmp_path / "frames")
    assert [(r.frame, r.mask, r.nerve_px) for r in rows if r.subject == "test"] == [
        ("frames/test_1.tif", "", 0),
        ("frames/test_2.tif", "", 0),
    ]
    assert rows[-1].subject == "test"


def test_an_invalid_test_frame_is_an_error_too(competition):
    truncate(competition / "test/2.tif")
    with pytest.raises(SourceError, match=r"test/2.tif: is not a readable frame"):
        read(competition)
    frames, left_out = read(competition, skip=True)
    assert "test/1.tif" in frames
    assert [file for file, _ in left_out] == ["test/2.tif"]


def test_unknown_files_are_listed_but_not_those_of_file_managers(competition):
    for name in ("train_masks.csv", "train/Thumbs.db", "train/._1_1.tif"):
        (competition / name).write_bytes(b"")
    _, left_out = read(competition)
    assert [file for file, _ in left_out] == ["train_masks.csv"]


@pytest.mark.parametrize("name", ["train/1_1 (copy).tif", "train/P-3_1.tif", "train/7_1.tiff", "train/7_1.dcm"])
def test_a_picture_with_an_unknown_name_is_an_error(competition, name):
    (competition / name).write_bytes(b"")
    with pytest.raises(SourceError, match=re.escape(name)):
        read(competition)
    _, left_out = read(competition, skip=True)
    assert [file for file, _ in left_out] == [name]


def test_a_frame_and_a_mask_of_different_orientation_are_an_error(competition):
    for name in ("1_1.tif", "1_1_mask.tif"):
        shutil.copy(CASES / name, competition / "train" / name)
    with pytest.raises(SourceError, match=r"1_1_mask\.tif: has Orientation 1, but its frame has 3"):
        read(competition)


def test_a_file_name_that_is_not_utf_8_is_listed_as_it_is(competition, tmp_path):
    name = os.fsdecode(b"train/n\xe9rf.txt")
    (competition / name).write_bytes(b"")
    ingest_source(parameters(competition), tmp_path / "frames")
    assert b"n\xe9rf.txt," in (tmp_path / "frames/left_out.csv").read_bytes()


def test_leading_zeros_do_not_matter(competition, tmp_path):
    for old, new in (("10_1.tif", "010_001.tif"), ("10_1_mask.tif", "10_01_mask.TIF")):
        (competition / "train" / old).rename(competition / "train" / new)
    rows, _ = ingest_source(parameters(competition), tmp_path / "frames")
    assert [(row.frame, row.mask) for row in rows if row.subject == "10"] == [("frames/10_1.tif", "masks/10_1.png")]
