"""usgra-seg: read from a folder, a zip file or its git repository; an error names the file of each invalid pair."""

import csv
import re
import shutil
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage import data

from service.inference.out_of_distribution import image_features, mahalanobis_distance
from tests.frames import disc, png
from tests.project_copy import nerve
from tests.training.data.sources.usgra_dataset import (
    LABELS,
    REAL,
    encode,
    needs_real_data,
    palette_png,
    write_dataset,
)
from training.data.manifest import read_frame, read_labels, read_manifest
from training.data.source_errors import IngestLog, SourceError
from training.data.source_ingestion import ingest_source
from training.data.sources import usgra
from training.evaluation.out_of_distribution_fit import fit_stats
from training.workspace.nerve_parameters import NerveParameters


@pytest.fixture
def dataset(tmp_path) -> Path:
    return write_dataset(tmp_path / "sets/dataset")


def parameters(path: Path, on_error: str = "stop") -> NerveParameters:
    return nerve({"source": "usgra", "path": str(path), "on_error": on_error})


def read(path: Path, skip: bool = False) -> tuple[list[int], list[str]]:
    """Return the numbers of the frames, and the files left out."""
    log = IngestLog(skip)
    return [pair.number for pair in usgra.pairs(path, log)], [file for file, _ in log.left_out]


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


# Each kind of invalid pair: how to break it (image, mask), the reason in the message, and the files named.
INVALID_PAIRS = {
    "truncated frame": (lambda i, m: truncate(i), "is not a readable frame", ["images/{}"]),
    "tiny frame": (lambda i, m: i.write_bytes(png(disc(8, 8))), "is not a readable frame .*16x16", ["images/{}"]),
    "truncated mask": (lambda i, m: truncate(m), "is not a readable mask", ["masks/{}"]),
    "JPEG mask": (
        lambda i, m: m.write_bytes(encode(Image.fromarray(LABELS), "JPEG")),
        "is not a readable mask",
        ["masks/{}"],
    ),
    "label 3": (lambda i, m: m.write_bytes(palette_png(LABELS + 1)), "maximum 3", ["masks/{}"]),
    "colours as labels": (lambda i, m: m.write_bytes(png(np.dstack([LABELS] * 3))), "mode RGB", ["masks/{}"]),
    "black and white in colour": (
        lambda i, m: m.write_bytes(png(np.dstack([LABELS // 2 * 255] * 3))),
        "mode RGB",
        ["masks/{}"],
    ),
    "mask of another size": (
        lambda i, m: m.write_bytes(palette_png(LABELS[:-1])),
        "has 48x63 pixels, but its frame has 48x64",
        ["masks/{}"],
    ),
    "mask without a frame": (lambda i, m: i.unlink(), "is a mask without a frame", ["masks/{}"]),
    "frame without a mask": (lambda i, m: m.unlink(), "is a frame without a mask", ["images/{}"]),
    "the same number twice": (
        lambda i, m: shutil.copy(i, i.with_name(f"0{i.name}")),
        "has the same subject and number as another file",
        ["images/{}", "images/0{}", "masks/{}"],
    ),
}


def break_pair(folder: Path, kind: str, number: int) -> list[str]:
    """Break a pair; return the files that must be named."""
    break_files, _, files = INVALID_PAIRS[kind]
    name = f"{number:04}.png"
    break_files(folder / "images" / name, folder / "masks" / name)
    return [file.format(name) for file in files]


@pytest.mark.parametrize("kind", INVALID_PAIRS)
def test_an_invalid_pair_stops_with_a_message_that_names_the_file(dataset, kind):
    files = break_pair(dataset, kind, 3)
    with pytest.raises(SourceError, match=INVALID_PAIRS[kind][1]) as raised:
        read(dataset)
    assert raised.value.file in files


def test_skip_lists_all_invalid_pairs_and_keeps_the_valid_ones(dataset, tmp_path):
    expected = {file for n, kind in enumerate(INVALID_PAIRS, start=1) for file in break_pair(dataset, kind, n)}
    ingest_source(parameters(dataset, "skip"), tmp_path / "frames")
    with (tmp_path / "frames/left_out.csv").open(newline="") as file:
        assert {row["file"] for row in csv.DictReader(file)} == expected
    assert [row.number for row in read_manifest(tmp_path / "frames")] == [12]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("missing", "is neither a folder nor a zip file"),
        ("empty", r"has no images/NNNN.png .* that holds images/ and masks/"),
        ("two levels too high", "has no images/NNNN.png"),
    ],
)
def test_an_error_names_a_path_without_the_data_set(dataset, tmp_path, kind, reason):
    path = dataset.parent.parent if kind == "two levels too high" else tmp_path / "path"
    if kind == "empty":
        path.mkdir()
    with pytest.raises(SourceError, match=reason) as raised:
        read(path)
    assert raised.value.file == str(path)


def test_many_unpaired_files_mean_an_incomplete_data_set(tmp_path):
    dataset = write_dataset(tmp_path / "dataset", range(30))
    for number in range(11):
        (dataset / f"masks/{number:04}.png").unlink()
    with pytest.raises(SourceError, match="is incomplete: it has 30 frames and 19 masks, 11 of them unpaired"):
        read(dataset)
    numbers, left_out = read(dataset, skip=True)
    assert numbers == list(range(11, 30))
    assert left_out == [str(dataset), *(f"images/{number:04}.png" for number in range(11))]


def test_the_authors_test_split_and_unknown_files_are_left_out(dataset):
    write_dataset(dataset / "test", range(90, 92))
    (dataset / "images/notes.txt").write_text("")
    numbers, left_out = read(dataset)
    assert numbers == list(range(1, 13))
    test = [f"test/{kind}/00{n}.png" for kind in ("images", "masks") for n in (90, 91)]
    assert left_out == [*test, "images/notes.txt"]


def test_labels_are_the_indices_of_the_palette(dataset, tmp_path):
    rows, _ = ingest_source(parameters(dataset), tmp_path / "frames")
    assert np.array_equal(read_labels(rows[0], tmp_path / "frames"), LABELS)
    assert (rows[0].nerve_px, rows[0].vessels, rows[0].spacing_mm) == (200, 1, None)
    assert {row.subject for row in rows} == {"usgra"}
    assert rows[0].licence == "", "these frames are not the authors'"


@pytest.mark.parametrize("name", ["images/P-3_0001.png", "images/0099.jpg", "0099.png"])
def test_a_picture_with_an_unknown_name_is_an_error(dataset, name):
    (dataset / name).write_bytes(png(disc(48, 64)))
    with pytest.raises(SourceError, match=re.escape(name)):
        read(dataset)


@pytest.mark.parametrize("factor", [4, 16])
def test_frames_of_10_or_12_bits_in_16_are_read_as_the_plain_ones(dataset, tmp_path, factor):
    plain, _ = ingest_source(parameters(dataset), tmp_path / "plain")
    for file in (dataset / "images").iterdir():
        file.write_bytes(png(cv2.imread(str(file), cv2.IMREAD_UNCHANGED).astype(np.uint16) * factor))
    rows, _ = ingest_source(parameters(dataset), tmp_path / "frames")
    for row, plain_row in zip(rows, plain, strict=True):
        pixels = read_frame(row, tmp_path / "frames").pixels / 257
        assert np.abs(pixels - read_frame(plain_row, tmp_path / "plain").pixels).max() <= 2


def test_own_frames_can_have_subjects_and_masks_of_nerves_only(dataset, tmp_path):
    """In a zip file of the folder, as a file manager makes it."""
    for number in range(1, 13):
        name, grey = f"masks/{number:04}.png", np.where(LABELS == 1, 255, 0).astype(np.uint8)
        (dataset / name).write_bytes(png(grey))
        for kind in ("images", "masks"):
            (dataset / f"{kind}/{number:04}.png").rename(dataset / f"{kind}/p{number % 3}_{number:04}.png")
    archive = shutil.make_archive(str(tmp_path / "own"), "zip", dataset.parent, dataset.name)
    rows, _ = ingest_source(parameters(Path(archive)), tmp_path / "frames")
    assert {row.subject for row in rows} == {"p0", "p1", "p2"}
    assert {(row.nerve_px, row.vessels, row.licence) for row in rows} == {(200, 0, "")}


def test_the_reason_for_a_broken_mask_is_the_same_in_every_run(dataset, tmp_path):
    """Otherwise the data set's md5 would change with every ingest."""
    (dataset / "masks/0003.png").write_bytes(b"no image")
    for folder in ("first", "second"):
        ingest_source(parameters(dataset, "skip"), tmp_path / folder)
    first, second = ((tmp_path / folder / "left_out.csv").read_text() for folder in ("first", "second"))
    assert first == second
    assert "masks/0003.png,is not a readable mask (not a complete PNG file)" in first


@pytest.fixture(scope="module")
def real_frames(tmp_path_factory) -> tuple[Path, IngestLog]:
    """The folder of the ingested real data set, and its log of left-out files."""
    folder = tmp_path_factory.mktemp("real") / "frames"
    _, log = ingest_source(parameters(REAL), folder)
    return folder, log


@pytest.mark.slow
@needs_real_data
def test_the_real_data_set(real_frames):
    folder, log = real_frames
    rows = read_manifest(folder)
    sizes = Counter((row.width, row.height) for row in rows)
    assert len(rows) == 204
    assert set(sizes) == {(534, 512), (512, 512), (761, 632)}
    assert all(row.nerve_px > 0 and row.vessels for row in rows), "every frame has a nerve"
    assert [row.number for row in rows] == sorted(row.number for row in rows)
    assert {row.licence for row in rows} == {usgra.LICENCE}
    assert {file for file, _ in log.left_out} <= {"LICENSE", "README.md"}


@pytest.mark.slow
@needs_real_data
def test_photographs_are_out_of_distribution_and_most_real_frames_are_not(real_frames):
    folder, _ = real_frames
    frames = [read_frame(row, folder) for row in read_manifest(folder)]
    contents = [frame.content_box.crop(frame.pixels) for frame in frames]
    stats = fit_stats(np.stack([image_features(pixels) for pixels in contents[:150]]))
    for photograph in (data.camera(), data.coins(), data.moon(), data.cell()):
        assert mahalanobis_distance(photograph, stats) > stats.limit
    assert np.mean([mahalanobis_distance(pixels, stats) > stats.limit for pixels in contents[150:]]) < 0.2
