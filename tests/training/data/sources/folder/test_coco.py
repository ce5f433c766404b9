"""COCO annotations: polygons and run-lengths of many frames in one file."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.frames import disc, png
from tests.training.data.sources.folder.datasets import (
    HEIGHT,
    SQUARE,
    TRIANGLE,
    WIDTH,
    encode,
    ingest,
    polygon,
    write,
)
from tests.training.data.sources.folder.test_run_lengths import DISC, MASKS, run_lengths
from training.data.source_errors import SourceError

NAMES = ("a_1.png", "a_2.png")


def annotation(segmentation: Any, **changes: Any) -> dict[str, Any]:
    return {"id": 5, "image_id": 1, "category_id": 3, "segmentation": segmentation} | changes


POLYGONS = annotation([np.ravel(TRIANGLE).tolist(), np.ravel(SQUARE).tolist()])


def coco(*annotations: dict[str, Any], names: tuple[str, ...] = NAMES, **changes: Any) -> bytes:
    """Return a COCO file with the classes nerve and muscle."""
    images = [{"id": n, "file_name": name, "height": HEIGHT, "width": WIDTH} for n, name in enumerate(names, start=1)]
    categories = [{"id": 3, "name": "nerve"}, {"id": 4, "name": "muscle"}]
    return json.dumps({"images": images, "annotations": list(annotations), "categories": categories} | changes).encode()


def write_frames(path: Path, *names: str) -> Path:
    for seed, name in enumerate(names):
        write(path / name, png(disc(HEIGHT, WIDTH, seed=seed)))
    return path


def test_polygons_become_labels(tmp_path) -> None:
    """The second frame has no annotation: it shows no nerve."""
    path = write_frames(tmp_path / "set", "images/a_1.png", "images/a_2.png")
    write(path / "instances.json", coco(POLYGONS))
    rows, labels, _ = ingest(path, tmp_path / "frames")
    assert np.array_equal(labels[0], polygon(TRIANGLE) | polygon(SQUARE))
    assert rows[1].nerve_px == 0


@pytest.mark.parametrize("counts", [run_lengths(DISC), MASKS["disc"][1]], ids=["list", "compressed"])
@pytest.mark.parametrize("iscrowd", [0, 1])
def test_run_lengths_become_labels(tmp_path, counts, iscrowd) -> None:
    path = write_frames(tmp_path / "set", *NAMES)
    ignored = annotation({"counts": "", "size": [1, 1]}, category_id=4)
    mask = annotation({"counts": counts, "size": [HEIGHT, WIDTH]}, iscrowd=iscrowd)
    write(path / "instances.json", coco(mask, ignored))
    _, labels, _ = ingest(path, tmp_path / "frames")
    assert np.array_equal(labels[0], DISC)


@pytest.mark.parametrize(
    ("annotations", "changes", "reason"),
    [
        ([annotation({"counts": "x"})], {}, r"invalid entry \(KeyError\('size'\)\)"),
        ([annotation({"counts": "P", "size": [HEIGHT, WIDTH]})], {}, "run-lengths end within a number"),
        ([annotation({"counts": [HEIGHT * WIDTH], "size": [WIDTH, HEIGHT]})], {}, "its mask has 60x80 pixels"),
        ([annotation([[1, 1, 2, 2, 3, 3]], category_id=9)], {}, "invalid entry"),
        ([annotation([[1, 1, 2]])], {}, "invalid entry"),
        ([annotation([], bbox=[1, 1, 20, 20])], {}, "polygon of 0 points, which is no area"),
        ([annotation(POLYGONS["segmentation"], image_id=7)], {}, "annotation 5 is of an image that is not in `images`"),
        ([], {"names": (*NAMES, "b.png")}, "b.png: is a frame that the folder does not have"),
        ([], {"names": (*NAMES, "a_1.jpg")}, "a_1.png: annotates the same frame as another file"),
        ([], {"images": [{"id": 1}]}, "invalid entry"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_invalid_coco_file_is_an_error(tmp_path, annotations, changes, reason) -> None:
    path = write_frames(tmp_path / "set", *NAMES)
    write(path / "instances.json", coco(*annotations, **changes))
    with pytest.raises(SourceError, match=f"^instances.json.*{reason}") as raised:
        ingest(path, tmp_path / "frames")
    assert str(raised.value).count("nerve.on_error") == 1


def test_skip_lists_an_invalid_file_once(tmp_path) -> None:
    path = write_frames(tmp_path / "set", *NAMES, "c.png")
    write(path / "instances.json", coco(annotation([[1, 1, 2]])))
    write(path / "other.json", b"{}")
    write(path / "c_mask.png", encode(np.uint8(255) * DISC, "PNG"))
    rows, _, log = ingest(path, tmp_path / "frames", on_error="skip")
    assert len(rows) == 1
    assert sorted(file for file, _ in log.left_out) == ["a_1.png", "a_2.png", "instances.json", "other.json"]


def test_frames_of_the_same_name_in_several_folders(tmp_path) -> None:
    """A COCO file beside its frames needs no folders. One above them does."""
    frames = ("anna/1.png", "ben/1.png")
    path = write_frames(tmp_path / "beside", *frames)
    write(path / "anna/coco.json", coco(POLYGONS, names=("1.png",)))
    write(path / "ben/coco.json", coco(names=("1.png",)))
    assert [row.nerve_px > 0 for row in ingest(path, tmp_path / "1")[0]] == [True, False]
    path = write_frames(tmp_path / "above", *frames)
    write(path / "annotations/coco.json", coco(POLYGONS, names=(r"C:\data\anna\images\1.png", "ben/1.png")))
    assert [row.nerve_px > 0 for row in ingest(path, tmp_path / "2")[0]] == [True, False]
    write(path / "annotations/coco.json", coco(POLYGONS, names=("1.png",)))
    with pytest.raises(SourceError, match=r"coco\.json: 1\.png: can be anna/1\.png or ben/1\.png"):
        ingest(path, tmp_path / "3")
    write(path / "annotations/coco.json", coco(POLYGONS, names=("carl/1.png",)))
    with pytest.raises(SourceError, match="does not have"):
        ingest(path, tmp_path / "4")
