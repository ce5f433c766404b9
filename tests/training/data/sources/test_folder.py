"""A folder of frames with masks or LabelMe annotations."""

import io
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw

from tests.frames import disc, png
from tests.project_copy import nerve
from training.data.manifest import read_frame, read_labels
from training.data.source_errors import IngestLog, SourceError
from training.data.source_ingestion import ingest_source
from training.data.sources import folder
from training.workspace.parameters import NerveParameters
from training.workspace.params_file import ParameterError

HEIGHT, WIDTH = 60, 80
TRIANGLE, SQUARE = [[10, 10], [40, 12], [20, 50]], [[30, 30], [60, 30], [60, 50], [30, 50]]
CLASSES = {"shenjing": "nerve", "dongmai": "vessel", "jirouzuzhi": "ignore", "神经": "nerve"}


def parameters(path: Path, **changes: Any) -> NerveParameters:
    return nerve({"source": "folder", "path": str(path), "on_error": "stop", "classes": CLASSES} | changes)


def write(file: Path, data: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


def labelme(*shapes: tuple[str, list[list[float]]], **changes: Any) -> dict[str, Any]:
    entries = [{"label": label, "points": points, "shape_type": "polygon"} for label, points in shapes]
    return {"version": "4.5.6", "imageHeight": HEIGHT, "imageWidth": WIDTH, "shapes": entries} | changes


def polygon(points: list[list[float]]) -> np.ndarray:
    image = Image.new("1", (WIDTH, HEIGHT))
    ImageDraw.Draw(image).polygon([tuple(point) for point in points], fill=1, outline=1)
    return np.array(image)


def write_labelme_set(path: Path, encoding: str = "utf-8") -> None:
    for case, number in ((1, 1), (1, 2), (2, 1)):
        write(path / f"{case}_{number}.jpg", encode(disc(HEIGHT, WIDTH, seed=number + 10 * case), "JPEG"))
        shapes = [("shenjing", TRIANGLE), ("dongmai", SQUARE), ("jirouzuzhi", SQUARE)][: 4 - number]
        text = json.dumps(labelme(*shapes, flags={"备注": "臂丛"}), ensure_ascii=False)
        write(path / f"{case}_{number}.json", text.encode(encoding))


def encode(pixels: np.ndarray, file_format: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, file_format)
    return file.getvalue()


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
        (labelme(("shenjing", [["x", 1]] * 3)), "has a shape with invalid points"),
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


MASK = polygon(SQUARE)
MASKS = {
    "0 and 255": (encode(np.uint8(255) * MASK, "PNG"), {}),
    "0 and 1": (encode(MASK.astype(np.uint8), "PNG"), {}),
    "a colour": (encode(np.dstack([MASK * np.uint8(255), MASK * np.uint8(0), MASK * np.uint8(0)]), "PNG"), {}),
    "classes": (
        encode(np.where(MASK, 7, np.where(polygon(TRIANGLE), 9, 0)).astype(np.uint8), "PNG"),
        {"7": "nerve", "9": "ignore"},
    ),
    "JPEG": (encode(np.uint8(255) * MASK, "JPEG"), {}),
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
    with pytest.raises(SourceError, match=r"masks/a_1\.png: has the same name as another file \(a_1_mask\.png\)"):
        keys(tmp_path)


def test_an_empty_folder_is_an_error(tmp_path) -> None:
    with pytest.raises(SourceError, match="has no frame with a mask or annotations"):
        keys(tmp_path)
    with pytest.raises(ParameterError, match=r"nerve\.path is empty"):
        list(folder.pairs(None, IngestLog(skip=False), CLASSES))


def test_a_video_has_a_folder_of_masks(tmp_path) -> None:
    """Frame 1 has no mask. The masks are JPEG files, as a public data set has them."""
    path = tmp_path / "set"
    (path / "videos").mkdir(parents=True)
    frames = [disc(HEIGHT, WIDTH, across=across) for across in (0.3, 0.5, 0.7)]
    writer = cv2.VideoWriter(str(path / "videos/case7.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 25, (WIDTH, HEIGHT))
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR))
    writer.release()
    for index in (0, 2):
        write(path / f"masks/case7/case7_{index:03}.jpg", encode(np.uint8(255) * MASK, "JPEG"))
    rows, log = ingest_source(parameters(path), tmp_path / "frames")
    assert [(row.subject, row.number) for row in rows] == [("case7", 0), ("case7", 2)]
    assert log.left_out == [("videos/case7.avi[1]", "is a frame of a video without a mask")]
    read = read_frame(rows[1], tmp_path / "frames").pixels.astype(int)
    assert np.abs(read - frames[2]).mean() < np.abs(read - frames[1]).mean() / 2

    write(path / "masks/case7/case7_003.png", encode(np.uint8(255) * MASK, "PNG"))
    with pytest.raises(SourceError, match=r"case7_003\.png: is a mask of no frame"):
        ingest_source(parameters(path), tmp_path / "more")


def test_a_video_without_masks_is_an_error(tmp_path) -> None:
    write(tmp_path / "a.mp4", b"")
    with pytest.raises(SourceError, match=r"a\.mp4: is a video without masks"):
        keys(tmp_path)


def coco(**changes: Any) -> dict[str, Any]:
    images = [{"id": n, "file_name": f"images/a_{n}.png", "height": HEIGHT, "width": WIDTH} for n in (1, 2)]
    annotation = {
        "id": 5,
        "image_id": 1,
        "category_id": 3,
        "segmentation": [np.ravel(TRIANGLE).tolist(), np.ravel(SQUARE).tolist()],
    }
    return {"images": images, "annotations": [annotation], "categories": [{"id": 3, "name": "神经"}]} | changes


def test_coco_annotations_become_labels(tmp_path) -> None:
    """The second frame has no annotation: it shows no nerve."""
    for number in (1, 2):
        write(tmp_path / f"set/images/a_{number}.png", png(disc(HEIGHT, WIDTH, seed=number)))
    write(tmp_path / "set/instances.json", json.dumps(coco()).encode())
    rows, _ = ingest_source(parameters(tmp_path / "set"), tmp_path / "frames")
    assert np.array_equal(read_labels(rows[0], tmp_path / "frames"), polygon(TRIANGLE) | polygon(SQUARE))
    assert rows[1].nerve_px == 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"annotations": [{"image_id": 1, "category_id": 3, "segmentation": {"counts": "x"}}]}, "has run lengths"),
        ({"annotations": [{"image_id": 1, "category_id": 4, "segmentation": [[1, 1, 2, 2, 3, 3]]}]}, "invalid entry"),
        ({"images": coco()["images"] + [{"id": 9, "file_name": "b.png", "height": 1, "width": 1}]}, "does not have"),
    ],
    ids=str,
)
def test_an_invalid_coco_file_is_an_error(tmp_path, changes, reason) -> None:
    for number in (1, 2):
        write(tmp_path / f"a_{number}.png", png(disc(HEIGHT, WIDTH)))
    write(tmp_path / "instances.json", json.dumps(coco(**changes)).encode())
    with pytest.raises(SourceError, match=f"instances.json.*{reason}"):
        keys(tmp_path)
