"""The competition's files: read from a folder or a zip, and every fault named."""

import csv
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.frames import disc, tiff
from tests.project import nerve
from training.ingest import ingest
from training.parameters import Nerve
from training.sources import kaggle
from training.sources.layout import Faults, SourceError, read_frame, read_labels, read_manifest

STEMS = [f"1_{n}" for n in range(1, 15)] + ["2_1", "2_2", "10_1"]
SQUARE = (slice(100, 200), slice(300, 400))  # where every even frame's nerve lies


def mask(grey: int = 255, height: int = 420, width: int = 580) -> np.ndarray:
    pixels = np.zeros((height, width), np.uint8)
    pixels[SQUARE] = grey
    return pixels


@pytest.fixture(scope="module")
def whole_competition(tmp_path_factory) -> Path:
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
def competition(whole_competition, tmp_path) -> Path:
    """A competition to be broken."""
    return shutil.copytree(whole_competition, tmp_path / "kaggle")


def zipped(folder: Path) -> Path:
    return Path(shutil.make_archive(str(folder), "zip", folder))


def chosen(path: Path, on_fault: str = "stop") -> Nerve:
    return nerve({"source": "kaggle", "path": str(path), "on_fault": on_fault})


def read(path: Path, leave_out: bool = False) -> tuple[list[str], list[tuple[str, str]]]:
    """The frames of a competition by their file, and what was left out."""
    faults = Faults(leave_out)
    return [pair.file for pair in kaggle.pairs(path, faults)], faults.listed


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def gone(file: Path) -> None:
    """A name without a file behind it: what a broken disk or network share looks like."""
    file.unlink()
    file.symlink_to("nowhere")


def copied(file: Path, to: str) -> None:
    (file.parent / to).parent.mkdir(exist_ok=True)
    shutil.copy(file, file.parent / to)


# One fault of a pair each: how it comes about (from the pair's frame and mask), the reason given, the files named.
FAULTS: dict[str, tuple[Callable[[Path, Path], object], str, list[str]]] = {
    "truncated frame": (lambda f, m: cut(f), "is no readable frame .*cut short", ["{}.tif"]),
    "empty frame": (lambda f, m: f.write_bytes(b""), "is no readable frame", ["{}.tif"]),
    "text as a frame": (lambda f, m: f.write_text("a frame"), "is no readable frame", ["{}.tif"]),
    "unreadable frame": (lambda f, m: gone(f), "cannot be read", ["{}.tif"]),
    "small frame": (
        lambda f, m: f.write_bytes(tiff(disc(100, 100))),
        "is 100x100 pixels; the competition's are 580x420",
        ["{}.tif"],
    ),
    "turned frame": (lambda f, m: f.write_bytes(tiff(disc(580, 420))), "is 420x580 pixels", ["{}.tif"]),
    "truncated mask": (lambda f, m: cut(m), "is no readable frame .*cut short", ["{}_mask.tif"]),
    "small mask": (lambda f, m: m.write_bytes(tiff(mask(255, 419))), "is 580x419 pixels", ["{}_mask.tif"]),
    "grey mask": (lambda f, m: m.write_bytes(tiff(mask(128))), r"grey values \(128 ", ["{}_mask.tif"]),
    "mask without a frame": (lambda f, m: f.unlink(), "is a mask without a frame", ["{}_mask.tif"]),
    "frame without a mask": (lambda f, m: m.unlink(), "is a frame without a mask", ["{}.tif"]),
    "the same name in another case": (
        lambda f, m: copied(f, f"{f.stem}.TIF"),
        "claims the same frame or mask",
        ["{}.tif", "{}.TIF", "{}_mask.tif"],
    ),
    "the same name elsewhere": (
        lambda f, m: copied(m, f"more/{m.name}"),
        "claims the same frame or mask",
        ["{}.tif", "{}_mask.tif", "more/{}_mask.tif"],
    ),
    "leading zeros": (
        lambda f, m: copied(f, f"0{f.name}"),
        "claims the same frame or mask",
        ["{}.tif", "0{}.tif", "{}_mask.tif"],
    ),
}


def break_pair(folder: Path, fault: str, stem: str) -> list[str]:
    """Breaks a pair; gives the files that must be named."""
    do, _, files = FAULTS[fault]
    do(folder / "train" / f"{stem}.tif", folder / "train" / f"{stem}_mask.tif")
    return [f"train/{file.format(stem)}" for file in files]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_stops_with_a_message_that_names_the_file_and_the_ways_out(competition, fault):
    files = break_pair(competition, fault, "1_2")
    with pytest.raises(SourceError, match=FAULTS[fault][1]) as raised:
        read(competition)
    assert raised.value.file in files
    assert str(raised.value).startswith(raised.value.file)
    assert "nerve.on_fault" in raised.value.remedy
    assert len(raised.value.remedy) > len("Or set nerve.on_fault to leave_out."), "no remedy of its own"


def test_faults_of_every_kind_are_left_out_and_listed_and_the_good_pairs_remain(competition, tmp_path):
    broken = dict(zip(FAULTS, STEMS, strict=False))
    expected = {file for fault, stem in broken.items() for file in break_pair(competition, fault, stem)}
    out = tmp_path / "frames"
    ingest(chosen(competition, "leave_out"), out)

    with (out / "left_out.csv").open(newline="") as file:
        listed = {row["file"]: row["reason"] for row in csv.DictReader(file)}
    assert set(listed) == expected
    assert all(listed.values())
    labelled = [row for row in read_manifest(out) if row.mask]
    assert [f"{row.subject}_{row.number}" for row in labelled] == STEMS[len(FAULTS) :]


def test_where_no_pair_remains_leaving_out_is_an_error_too(competition, tmp_path):
    for file in (competition / "train").glob("*_mask.tif"):
        file.write_bytes(b"no mask")
    with pytest.raises(SourceError, match=r"no frame with a mask \(17 files left out, train/1_1_mask.tif is no"):
        ingest(chosen(competition, "leave_out"), tmp_path / "frames")
    assert not (tmp_path / "frames").exists()


@pytest.mark.parametrize("kind", ["missing", "empty", "test frames alone", "other files", "no zip", "cut zip"])
def test_a_path_without_the_competition_is_named(competition, tmp_path, kind):
    path = tmp_path / "path"
    if kind in ("empty", "other files"):
        path.mkdir()
    if kind == "other files":
        (path / "notes.txt").write_text("no frames")
    elif kind == "test frames alone":
        shutil.copytree(competition / "test", path / "test")
    elif kind == "no zip":
        path.write_text("a page that says: please log in")
    elif kind == "cut zip":
        path = zipped(competition)
        cut(path)
    reason = {"missing": "is neither a folder nor a zip", "no zip": "is no whole zip", "cut zip": "is no whole zip"}
    with pytest.raises(SourceError, match=reason.get(kind, "holds no S_N.tif")) as raised:
        read(path, leave_out=True)
    assert raised.value.file == str(path)


def test_a_half_empty_folder_is_told_from_slips(competition):
    for file in list((competition / "train").glob("1_*_mask.tif")):
        file.unlink()
    with pytest.raises(SourceError, match="is half-empty: 17 frames, 3 masks, 14 of them without a partner"):
        read(competition)
    frames, listed = read(competition, leave_out=True)
    assert [file for file in frames if file.startswith("train")] == ["train/10_1.tif", "train/2_1.tif", "train/2_2.tif"]
    assert len(listed) == 1 + 14, "each frame is named all the same"


def contents(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_zip_gives_what_its_folder_gives_byte_for_byte(competition, tmp_path):
    ingest(chosen(competition), tmp_path / "a")
    ingest(chosen(zipped(competition)), tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_the_frames_bytes_are_unchanged_and_the_masks_are_labels(competition, tmp_path):
    rows, _ = ingest(chosen(competition), tmp_path / "frames")
    row = next(row for row in rows if (row.subject, row.number) == ("1", 2))
    assert (tmp_path / "frames" / row.frame).read_bytes() == (competition / "train/1_2.tif").read_bytes()
    assert np.array_equal(read_labels(tmp_path / "frames", row), mask(1))
    assert read_frame(tmp_path / "frames", row).pixels.shape == (row.height, row.width) == (420, 580)
    assert (row.nerve_px, row.vessels, row.spacing_mm) == (100 * 100, 0, None)


def test_test_frames_become_rows_without_a_mask(competition, tmp_path):
    rows, _ = ingest(chosen(competition), tmp_path / "frames")
    assert [(r.frame, r.mask, r.nerve_px) for r in rows if r.subject == "test"] == [
        ("frames/test_1.tif", "", 0),
        ("frames/test_2.tif", "", 0),
    ]
    assert rows[-1].subject == "test"


def test_a_faulty_test_frame_is_a_fault_too(competition):
    cut(competition / "test/2.tif")
    with pytest.raises(SourceError, match=r"test/2.tif: is no readable frame"):
        read(competition)
    frames, listed = read(competition, leave_out=True)
    assert "test/1.tif" in frames
    assert [file for file, _ in listed] == ["test/2.tif"]


def test_unknown_files_are_listed_and_what_file_managers_leave_behind_is_not(competition):
    for name in ("train_masks.csv", "train/1_1 (copy).tif", "train/Thumbs.db", "train/._1_1.tif"):
        (competition / name).write_bytes(b"")
    _, listed = read(competition)
    assert [file for file, _ in listed] == ["train/1_1 (copy).tif", "train_masks.csv"]


def test_zeros_before_a_number_change_nothing(competition, tmp_path):
    for old, new in (("10_1.tif", "010_001.tif"), ("10_1_mask.tif", "10_01_mask.TIF")):
        (competition / "train" / old).rename(competition / "train" / new)
    rows, _ = ingest(chosen(competition), tmp_path / "frames")
    assert [(row.frame, row.mask) for row in rows if row.subject == "10"] == [("frames/10_1.tif", "masks/10_1.png")]


def test_a_damaged_member_of_a_zip_is_a_fault_of_its_pair(competition):
    path = zipped(competition)
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("train/1_3.tif").header_offset
    damaged = bytearray(path.read_bytes())
    damaged[start + 300 : start + 400] = bytes(100)
    path.write_bytes(damaged)
    with pytest.raises(SourceError, match=r"train/1_3.tif: cannot be read .* Copy .*kaggle.zip anew"):
        read(path)
    frames, listed = read(path, leave_out=True)
    assert [file for file, _ in listed] == ["train/1_3.tif"]
    assert len(frames) == len(STEMS) - 1 + 2


def test_an_encrypted_zip_says_so(competition):
    path = zipped(competition)
    locked = bytearray(path.read_bytes())
    locked[locked.index(b"PK\x01\x02") + 8] |= 1  # the flag in the first entry of the central directory
    path.write_bytes(locked)
    with pytest.raises(SourceError, match=r"is encrypted. Unpack it, and name the folder"):
        read(path, leave_out=True)


@pytest.mark.parametrize("name", ["../1_1.tif", "/1_1.tif", "train/../../1_1.tif", r"C:\1_1.tif"])
def test_a_zip_that_leads_out_of_itself_is_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "hostile.zip", "w") as archive:
        archive.writestr(name, b"")
    with pytest.raises(SourceError, match="leads out of the zip"):
        read(tmp_path / "hostile.zip", leave_out=True)
