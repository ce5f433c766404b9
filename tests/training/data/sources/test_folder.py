"""A folder of frames with masks or LabelMe annotations."""

import base64
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.frames import disc, png
from tests.training.data.sources.folder import datasets
from tests.training.data.sources.folder.datasets import HEIGHT, SQUARE, TRIANGLE, WIDTH, encode, polygon, write
from training.data.manifest import read_labels
from training.data.source_errors import IngestLog, SourceError
from training.data.source_ingestion import ingest_source
from training.data.sources import folder
from training.workspace.nerve_parameters import NerveParameters
from training.workspace.parameter_validation import ParameterError

CLASSES = {"shenjing": "nerve", "dongmai": "vessel", "jirouzuzhi": "ignore", "神经": "nerve"}


def parameters(path: Path, **changes: Any) -> NerveParameters:
    return datasets.parameters(path, **({"classes": CLASSES} | changes))


def labelme(*shapes: tuple[str, list[list[float]]], **changes: Any) -> dict[str, Any]:
    entries = [{"label": label, "points": points, "shape_type": "polygon"} for label, points in shapes]
    return {"version": "4.5.6", "imageHeight": HEIGHT, "imageWidth": WIDTH, "shapes": entries} | changes


def write_labelme_set(path: Path, encoding: str = "utf-8") -> None:
    for case, number in ((1, 1), (1, 2), (2, 1)):
        write(path / f"{case}_{number}.jpg", encode(disc(HEIGHT, WIDTH, seed=number + 10 * case), "JPEG"))
        shapes = [("shenjing", TRIANGLE), ("dongmai", SQUARE), ("jirouzuzhi", SQUARE)][: 4 - number]
        text = json.dumps(labelme(*shapes, flags={"备注": "臂丛"}), ensure_ascii=False)
        write(path / f"{case}_{number}.json", text.encode(encoding))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
def test_labelme_annotations_become_labels(tmp_path, capsys, encoding) -> None:
    write_labelme_set(tmp_path / "set", encoding)
    rows, log = ingest_source(parameters(tmp_path / "set"), tmp_path / "frames")
    assert [(row.subject, row.number, row.vessels) for row in rows] == [("1", 1, 1), ("1", 2, 1), ("2", 1, 1)]
    assert log.left_out == []
    labels = read_labels(rows[0], tmp_path / "frames")
    expected = np.where(polygon(TRIANGLE), 1, np.where(polygon(SQUARE), 2, 0))
    assert np.array_equal(labels, expected)
    assert "class shenjing: 3 shapes in 3 frames" in capsys.readouterr().out


def test_an_unknown_class_is_an_error_that_names_it(tmp_path) -> None:
    write_labelme_set(tmp_path / "set")
    with pytest.raises(ParameterError, match=r"1_1\.json has the class 'dongmai'.*nerve\.classes"):
        ingest_source(parameters(tmp_path / "set", classes={"shenjing": "nerve"}), tmp_path / "frames")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (labelme(imageHeight=HEIGHT + 1), "is for 80x61 pixels, but its frame has 80x60"),
        (labelme(("shenjing", [[1, 1], [2, 2]])), "polygon of 2 points, which is no area"),
        (labelme(("shenjing", [[math.nan, 1], [9, 9], [1, 9]])), "not valid .a point is not finite"),
        (labelme(("shenjing", [["x", 1]] * 3)), "has a shape of class shenjing that is not valid"),
        ([], "is not a LabelMe file"),
    ],
    ids=str,
)
def test_invalid_annotations_are_an_error_that_names_the_file(tmp_path, content, reason) -> None:
    write_labelme_set(tmp_path / "set")
    write(tmp_path / "set/1_2.json", json.dumps(content).encode())
    with pytest.raises(SourceError, match=f"1_2.json: .*{reason}"):
        ingest_source(parameters(tmp_path / "set"), tmp_path / "frames")
    rows, log = ingest_source(parameters(tmp_path / "set", on_error="skip"), tmp_path / "skipped")
    assert len(rows) == 2 and [file for file, _ in log.left_out] == ["1_2.json"]


def test_a_labelme_mask_is_drawn(tmp_path) -> None:
    """LabelMe writes such shapes with its AI tools: a PNG, and the corners of its place."""
    png_text = base64.b64encode(encode(polygon(SQUARE)[30:51, 30:61], "PNG")).decode()
    shape = {"label": "shenjing", "shape_type": "mask", "points": [[30, 30], [60, 50]], "mask": png_text}
    write(tmp_path / "set/a_1.png", png(disc(HEIGHT, WIDTH)))
    write(tmp_path / "set/a_1.json", json.dumps(labelme() | {"shapes": [shape]}).encode())
    rows, _ = ingest_source(parameters(tmp_path / "set"), tmp_path / "frames")
    assert np.array_equal(read_labels(rows[0], tmp_path / "frames"), polygon(SQUARE))


MASK = polygon(SQUARE)
WHITE = np.full((HEIGHT, WIDTH), 255, np.uint8)
MASKS = {
    "0 and 255": (encode(np.uint8(255) * MASK, "PNG"), {}),
    "0 and 1": (encode(MASK.astype(np.uint8), "PNG"), {}),
    "a colour": (encode(np.dstack([MASK * np.uint8(255), MASK * np.uint8(0), MASK * np.uint8(0)]), "PNG"), {}),
    "classes": (
        encode(np.where(MASK, 7, np.where(polygon(TRIANGLE), 9, 0)).astype(np.uint8), "PNG"),
        {"7": "nerve", "9": "ignore"},
    ),
    "JPEG": (encode(np.uint8(255) * MASK, "JPEG"), {}),
    "a transparent background": (
        encode(np.dstack([np.full((HEIGHT, WIDTH, 3), 255), 255 * MASK]).astype(np.uint8), "PNG"),
        {},
    ),
    "an unused alpha channel": (encode(np.dstack([*[255 * MASK] * 3, 0 * MASK]).astype(np.uint8), "PNG"), {}),
}


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("place", ["masks/a_1{}", "a_1_mask{}"])
def test_masks_are_read_by_value(tmp_path, name, place) -> None:
    data, classes = MASKS[name]
    write(tmp_path / "set/images/a_1.png", png(disc(HEIGHT, WIDTH)))
    write(tmp_path / "set" / place.format(".jpg" if name == "JPEG" else ".png"), data)
    rows, _ = ingest_source(parameters(tmp_path / "set", classes=classes), tmp_path / "frames")
    labels = read_labels(rows[0], tmp_path / "frames")
    assert np.count_nonzero((labels == 1) != MASK) <= (0.03 * MASK.sum() if name == "JPEG" else 0)


def frames_with_masks(path: Path, *names: str) -> None:
    for name in names:
        write(path / f"{name}.png", png(disc(HEIGHT, WIDTH, seed=len(name))))
        write(path / f"{name}_mask.png", encode(np.uint8(255) * MASK, "PNG"))


def keys(path: Path) -> list[tuple[str, int]]:
    return sorted((pair.subject, pair.number) for pair in folder.pairs(path, IngestLog(skip=False), CLASSES))


def test_the_subject_comes_from_the_table_the_folder_or_the_name(tmp_path) -> None:
    frames_with_masks(tmp_path / "names", "anna_3", "anna_5", "ben-1")
    assert keys(tmp_path / "names") == [("anna", 3), ("anna", 5), ("ben", 1)]
    frames_with_masks(tmp_path / "folders", "anna/x1", "anna/x2", "ben/y1")
    assert keys(tmp_path / "folders") == [("anna", 1), ("anna", 2), ("ben", 1)]
    frames_with_masks(tmp_path / "same names", "anna/images/1", "ben/images/1")
    assert keys(tmp_path / "same names") == [("anna", 1), ("ben", 1)]
    write(tmp_path / "folders/subjects.csv", b"file,subject\nx1.png,carl\nx2.png,dora\ny1.png,dora\n")
    assert keys(tmp_path / "folders") == [("carl", 1), ("dora", 1), ("dora", 2)]
    write(tmp_path / "folders/subjects.csv", b"file,subject\nx1.png,carl\n")
    with pytest.raises(SourceError, match=r"subjects\.csv: has no subject for 2 frames, for example anna/x2\.png"):
        keys(tmp_path / "folders")
    write(
        tmp_path / "names/subjects.csv", "file,subject\nanna_3.png,李\nanna_5.png,李\nben-1.png,王\n".encode("gb18030")
    )
    assert keys(tmp_path / "names") == [("李", 3), ("李", 5), ("王", 1)]


@pytest.mark.parametrize("layout", ["{}_images/{}.png {}_masks/{}.png", "images/{}/{}.png masks/{}/{}.png"])
def test_frames_and_masks_can_have_folders_of_the_same_names(tmp_path, layout) -> None:
    """The folders of the subjects lie inside those of frames and masks, or are part of their names."""
    for subject in ("anna", "ben"):
        image, mask = layout.format(subject, 1, subject, 1).split()
        write(tmp_path / image, png(disc(HEIGHT, WIDTH)))
        write(tmp_path / mask, encode(np.uint8(255) * MASK, "PNG"))
    assert keys(tmp_path) == [("anna", 1), ("ben", 1)]


def test_files_of_the_same_name_are_errors_both(tmp_path) -> None:
    frames_with_masks(tmp_path, "a_1", "a_2")
    write(tmp_path / "a_1.jpg", encode(disc(HEIGHT, WIDTH), "JPEG"))
    log = IngestLog(skip=True)
    assert [pair.source_name for pair in folder.pairs(tmp_path, log, CLASSES)] == ["a_2.png"]
    assert sorted(file for file, _ in log.left_out) == ["a_1.jpg", "a_1.png", "a_1_mask.png"]


def test_nothing_vanishes(tmp_path) -> None:
    path = tmp_path / "set"
    frames_with_masks(path, "a_1", "a_2")
    write(path / "a_3.png", png(disc(HEIGHT, WIDTH)))
    write(path / "masks/b_9.png", encode(np.uint8(255) * MASK, "PNG"))
    write(path / "readme.txt", b"")
    log = IngestLog(skip=True)
    assert len(list(folder.pairs(path, log, CLASSES))) == 2
    assert dict(log.left_out) == {
        "a_3.png": "is a frame without a mask",
        "masks/b_9.png": "is a mask without a frame",
        "readme.txt": "is neither a picture nor annotations",
    }


def test_two_annotations_of_a_frame_are_an_error(tmp_path) -> None:
    frames_with_masks(tmp_path, "a_1", "a_2")
    write(tmp_path / "masks/a_1.png", encode(np.uint8(255) * MASK, "PNG"))
    with pytest.raises(
        SourceError, match=r"annotates the same frame as another file \(a_1_mask\.png, masks/a_1\.png\)"
    ):
        keys(tmp_path)


def test_an_empty_folder_is_an_error(tmp_path) -> None:
    with pytest.raises(SourceError, match="has no frame with a mask or annotations"):
        keys(tmp_path)
    with pytest.raises(ParameterError, match=r"nerve\.path is empty"):
        list(folder.pairs(None, IngestLog(skip=False), CLASSES))
