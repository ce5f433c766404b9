"""usgra-seg: from a folder or its git repository; every fault named; the real data where they lie beside."""

import csv
import io
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.frames import disc, png
from tests.project import nerve
from training.ingest import ingest
from training.parameters import Nerve
from training.sources import usgra
from training.sources.layout import Faults, SourceError, read_frame, read_labels, read_manifest

ROOT = Path(__file__).parent.parent
REAL = ROOT / ".." / "shared" / "data" / "usgra"
HEIGHT, WIDTH = 64, 48
LABELS = np.zeros((HEIGHT, WIDTH), np.uint8)
LABELS[10:20, 10:30] = 1
LABELS[40:50, 10:15] = 2


def palette(labels: np.ndarray) -> bytes:
    """A palette PNG as the data set's: the indices are the labels, the colours something else."""
    picture = Image.fromarray(labels).convert("P")
    picture.putdata(labels.ravel().tolist())
    picture.putpalette([0, 0, 0, 255, 255, 0, 200, 0, 0, 0, 0, 255])
    return saved(picture, "PNG")


def saved(picture: Image.Image, kind: str) -> bytes:
    written = io.BytesIO()
    picture.save(written, kind)
    return written.getvalue()


def write_dataset(folder: Path, numbers: range = range(1, 13)) -> Path:
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number in numbers:
        grey = np.roll(disc(HEIGHT, WIDTH), number, axis=0)
        (folder / "images" / f"{number:04}.png").write_bytes(png(np.dstack([grey, grey, grey // 2])))
        (folder / "masks" / f"{number:04}.png").write_bytes(palette(LABELS))
    return folder


@pytest.fixture
def dataset(tmp_path) -> Path:
    return write_dataset(tmp_path / "sets/dataset")


def chosen(path: Path, on_fault: str = "stop") -> Nerve:
    return nerve({"source": "usgra", "path": str(path), "on_fault": on_fault})


def read(path: Path, leave_out: bool = False) -> tuple[list[int], list[str]]:
    """The numbers of the frames, and the files left out."""
    faults = Faults(leave_out)
    return [pair.number for pair in usgra.pairs(path, faults)], [file for file, _ in faults.listed]


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


# One fault of a pair each: how it comes about (from image and mask), the reason given, the files named.
FAULTS = {
    "truncated frame": (lambda i, m: cut(i), "is no readable frame", ["images/{}"]),
    "tiny frame": (lambda i, m: i.write_bytes(png(disc(8, 8))), "16x16 are the least", ["images/{}"]),
    "truncated mask": (lambda i, m: cut(m), "is no readable mask", ["masks/{}"]),
    "JPEG as a mask": (
        lambda i, m: m.write_bytes(saved(Image.fromarray(LABELS), "JPEG")),
        "is no readable mask",
        ["masks/{}"],
    ),
    "label 3": (lambda i, m: m.write_bytes(palette(LABELS + 1)), "highest 3", ["masks/{}"]),
    "colours as labels": (lambda i, m: m.write_bytes(png(np.dstack([LABELS] * 3))), "mode RGB", ["masks/{}"]),
    "black and white in colour": (
        lambda i, m: m.write_bytes(png(np.dstack([LABELS // 2 * 255] * 3))),
        "mode RGB",
        ["masks/{}"],
    ),
    "mask of another size": (
        lambda i, m: m.write_bytes(palette(LABELS[:-1])),
        "is 48x63 pixels, its frame 48x64",
        ["masks/{}"],
    ),
    "mask without a frame": (lambda i, m: i.unlink(), "is a mask without a frame", ["masks/{}"]),
    "frame without a mask": (lambda i, m: m.unlink(), "is a frame without a mask", ["images/{}"]),
    "a number twice": (
        lambda i, m: shutil.copy(i, i.with_name(f"0{i.name}")),
        "claims the same frame or mask",
        ["images/{}", "images/0{}", "masks/{}"],
    ),
}


def break_pair(folder: Path, fault: str, number: int) -> list[str]:
    """Breaks a pair; gives the files that must be named."""
    do, _, files = FAULTS[fault]
    name = f"{number:04}.png"
    do(folder / "images" / name, folder / "masks" / name)
    return [file.format(name) for file in files]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_stops_with_a_message_that_names_the_file(dataset, fault):
    files = break_pair(dataset, fault, 3)
    with pytest.raises(SourceError, match=FAULTS[fault][1]) as raised:
        read(dataset)
    assert raised.value.file in files


def test_faults_of_every_kind_are_left_out_and_listed_and_the_good_pairs_remain(dataset, tmp_path):
    expected = {file for n, fault in enumerate(FAULTS, start=1) for file in break_pair(dataset, fault, n)}
    ingest(chosen(dataset, "leave_out"), tmp_path / "frames")
    with (tmp_path / "frames/left_out.csv").open(newline="") as file:
        assert {row["file"] for row in csv.DictReader(file)} == expected
    assert [row.number for row in read_manifest(tmp_path / "frames")] == [12]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("missing", "is neither a folder nor a zip"),
        ("empty", r"holds no images/NNNN.png .* in which images/ and masks/ lie"),
        ("two levels too high", "holds no images/NNNN.png"),
    ],
)
def test_a_path_without_the_data_set_is_named(dataset, tmp_path, kind, reason):
    path = dataset.parent.parent if kind == "two levels too high" else tmp_path / "path"
    if kind == "empty":
        path.mkdir()
    with pytest.raises(SourceError, match=reason) as raised:
        read(path)
    assert raised.value.file == str(path)


def test_a_half_empty_folder_is_told_from_slips(tmp_path):
    dataset = write_dataset(tmp_path / "dataset", range(30))
    for number in range(11):
        (dataset / f"masks/{number:04}.png").unlink()
    with pytest.raises(SourceError, match="is half-empty: 30 frames, 19 masks, 11 of them without a partner"):
        read(dataset)
    numbers, left_out = read(dataset, leave_out=True)
    assert numbers == list(range(11, 30))
    assert left_out == [str(dataset), *(f"images/{number:04}.png" for number in range(11))]


def test_the_authors_own_test_split_and_unknown_files_are_listed(dataset):
    write_dataset(dataset / "test", range(90, 92))
    (dataset / "images/notes.txt").write_text("")
    numbers, left_out = read(dataset)
    assert numbers == list(range(1, 13))
    test = [f"test/{kind}/00{n}.png" for kind in ("images", "masks") for n in (90, 91)]
    assert left_out == ["images/notes.txt", *test]


def test_labels_are_the_palettes_indices(dataset, tmp_path):
    rows, _ = ingest(chosen(dataset), tmp_path / "frames")
    assert np.array_equal(read_labels(tmp_path / "frames", rows[0]), LABELS)
    assert (rows[0].nerve_px, rows[0].vessels, rows[0].spacing_mm) == (200, 1, None)
    assert {row.subject for row in rows} == {"usgra"}
    assert rows[0].licence == "", "these frames are not the authors'"


def test_own_frames_may_tell_their_subjects_and_have_masks_of_nerves_alone(dataset, tmp_path):
    """In a zip of the folder, as file managers make it."""
    for number in range(1, 13):
        name, grey = f"masks/{number:04}.png", np.where(LABELS == 1, 255, 0).astype(np.uint8)
        (dataset / name).write_bytes(png(grey))
        for kind in ("images", "masks"):
            (dataset / f"{kind}/{number:04}.png").rename(dataset / f"{kind}/p{number % 3}_{number:04}.png")
    archive = shutil.make_archive(str(tmp_path / "own"), "zip", dataset.parent, dataset.name)
    rows, _ = ingest(chosen(Path(archive)), tmp_path / "frames")
    assert {row.subject for row in rows} == {"p0", "p1", "p2"}
    assert {(row.nerve_px, row.vessels, row.licence) for row in rows} == {(200, 0, "")}


def test_what_is_told_of_a_broken_mask_is_the_same_every_time(dataset, tmp_path):
    """Or the data's md5 would change with every ingest."""
    (dataset / "masks/0003.png").write_bytes(b"no picture")
    for folder in ("once", "again"):
        ingest(chosen(dataset, "leave_out"), tmp_path / folder)
    once, again = ((tmp_path / folder / "left_out.csv").read_text() for folder in ("once", "again"))
    assert once == again
    assert "masks/0003.png,is no readable mask (not a whole PNG)" in once


@pytest.fixture
def repository(tmp_path) -> tuple[Path, str]:
    """A git repository with the data set, and the commit before its frames were changed."""
    folder = tmp_path / "repository"
    write_dataset(folder / "dataset", range(1, 4))

    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        return subprocess.run(
            ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "the data set")
    commit = git("rev-parse", "HEAD")
    (folder / "dataset/images/0001.png").unlink()
    git("commit", "-qam", "one frame fewer")
    return folder, commit


@pytest.mark.parametrize("digits", [7, 40])
def test_it_is_fetched_from_its_repository_as_it_was_at_the_commit(repository, tmp_path, capfd, digits):
    folder, commit = repository
    usgra.fetch(tmp_path / "fetched", str(folder), commit[:digits])
    fetched, _ = read(tmp_path / "fetched")
    assert fetched == [1, 2, 3]
    assert not (folder / "dataset/images/0001.png").exists()
    assert capfd.readouterr() == ("", ""), "fetching is silent"


WATCHED = """
import sys
from pathlib import Path
from training.sources import usgra
def watch(event, arguments):
    if event == "socket.connect" or event == "subprocess.Popen":
        print(event, arguments)
sys.addaudithook(watch)
usgra.fetch(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
"""


def test_nobody_is_told_of_a_fetch(repository, tmp_path):
    """No process is started, and nothing connected to, even where analytics are not turned off."""
    folder, commit = repository
    environment = {name: value for name, value in os.environ.items() if "ANALYTICS" not in name}
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, tmp_path / "fetched", folder, commit],
        cwd=ROOT,
        env=environment | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "fetched/images/0001.png").is_file()


@pytest.mark.parametrize("missing", ["repository", "commit", "folder"])
def test_what_cannot_be_fetched_says_what_to_do_by_hand(repository, tmp_path, capfd, missing):
    folder, commit = repository
    if missing == "repository":
        folder = tmp_path / "nowhere"
    elif missing == "commit":
        commit = "0" * 40
    else:
        folder, commit = empty_repository(tmp_path / "empty")
    with pytest.raises(SourceError, match=r"cannot be fetched \(.+\)") as raised:
        usgra.fetch(tmp_path / "fetched", str(folder), commit)
    assert f"git clone {folder}" in raised.value.remedy
    assert "nerve.path" in raised.value.remedy
    assert not (tmp_path / "fetched").exists()


def empty_repository(folder: Path) -> tuple[Path, str]:
    folder.mkdir()
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    for arguments in (("init", "-q"), ("commit", "-q", "--allow-empty", "-m", "nothing")):
        subprocess.run(["git", *identity, *arguments], cwd=folder, check=True)
    return folder, "HEAD"


@pytest.mark.skipif(not REAL.is_dir(), reason="usgra-seg's frames do not lie at ../shared/data/usgra")
def test_the_real_data_set(tmp_path):
    rows, faults = ingest(chosen(REAL), tmp_path / "frames")
    sizes = Counter((row.width, row.height) for row in rows)
    assert len(rows) == 204
    assert set(sizes) == {(534, 512), (512, 512), (761, 632)}
    assert all(row.nerve_px > 0 and row.vessels for row in rows), "every frame has a nerve"
    assert [row.number for row in rows] == sorted(row.number for row in rows)
    assert {row.licence for row in rows} == {usgra.LICENCE}
    assert {file for file, _ in faults.listed} <= {"LICENSE", "README.md"}


@pytest.mark.skipif(not REAL.is_dir(), reason="usgra-seg's frames do not lie at ../shared/data/usgra")
def test_photographs_are_unlike_the_real_frames_and_most_other_real_frames_are_not(tmp_path):
    from skimage import data

    from service.familiar import distance, looks
    from training.familiarity import familiar

    ingest(chosen(REAL), tmp_path / "frames")
    frames = [read_frame(tmp_path / "frames", row) for row in read_manifest(tmp_path / "frames")]
    lit = [frame.lit.of(frame.pixels) for frame in frames]
    known = familiar(np.stack([looks(pixels) for pixels in lit[:150]]))
    for photograph in (data.camera(), data.coins(), data.moon(), data.cell()):
        assert distance(photograph, known) > known.limit
    assert np.mean([distance(pixels, known) > known.limit for pixels in lit[150:]]) < 0.2
