"""Videos with a folder of masks each."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.frames import disc
from tests.training.data.sources.folder.datasets import HEIGHT, SQUARE, WIDTH, encode, ingest, polygon, write
from training.data.manifest import read_frame
from training.data.source_errors import SourceError

MASK = encode(np.uint8(255) * polygon(SQUARE), "PNG")
FRAMES = [disc(HEIGHT, WIDTH, across=across) for across in (0.3, 0.5, 0.7)]


def write_video(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"MJPG"), 25, (WIDTH, HEIGHT))
    for frame in FRAMES:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR))
    writer.release()


def test_a_video_has_a_folder_of_masks(tmp_path) -> None:
    """Frame 1 has no mask. The masks are JPEG files, as a public data set has them."""
    path = tmp_path / "set"
    write_video(path / "data/ac_videos/case7.avi")
    for index in (0, 2):
        write(path / f"data/ac_masks/case7/case7_{index:03}.jpg", encode(np.uint8(255) * polygon(SQUARE), "JPEG"))
    rows, _, log = ingest(path, tmp_path / "frames")
    assert [(row.subject, row.number, row.vessels) for row in rows] == [("case7", 0, 0), ("case7", 2, 0)]
    assert log.left_out == [("data/ac_videos/case7.avi[1]", "is a frame of a cine without a mask")]
    read = read_frame(rows[1], tmp_path / "frames").pixels.astype(int)
    assert np.abs(read - FRAMES[2]).mean() < np.abs(read - FRAMES[1]).mean() / 2


@pytest.mark.parametrize(
    ("name", "reason"),
    [("case7_003.png", "is a mask of no frame: case7.avi has frames 0 to 2"), ("x.png", "its name does not end in")],
)
def test_a_mask_of_no_frame_is_an_error_and_the_others_remain(tmp_path, name, reason) -> None:
    path = tmp_path / "set"
    write_video(path / "case7.avi")
    for mask in ("case7_000.png", "case7_1.png", name):
        write(path / "masks/case7" / mask, MASK)
    with pytest.raises(SourceError, match=f"masks/case7/{name}: .*{reason}"):
        ingest(path, tmp_path / "frames")
    rows, _, log = ingest(path, tmp_path / "frames", on_error="skip")
    assert [row.number for row in rows] == [0, 1]
    assert sorted(file for file, _ in log.left_out) == sorted(["case7.avi[2]", f"masks/case7/{name}"])


def test_a_mask_of_another_size_is_an_error_and_the_others_remain(tmp_path) -> None:
    path = tmp_path / "set"
    write_video(path / "case7.avi")
    write(path / "masks/case7/000.png", encode(np.eye(30, dtype=np.uint8), "PNG"))
    write(path / "masks/case7/001.png", MASK)
    rows, _, log = ingest(path, tmp_path / "frames", on_error="skip")
    assert [row.number for row in rows] == [1]
    assert [file for file, _ in log.left_out] == ["case7.avi[2]", "masks/case7/000.png"]


def test_masks_can_label_vessels(tmp_path) -> None:
    path = tmp_path / "set"
    write_video(path / "case7.avi")
    write(path / "masks/case7/case7_0.png", encode(np.uint8(2) * polygon(SQUARE), "PNG"))
    rows, labels, _ = ingest(path, tmp_path / "frames", classes={"1": "nerve", "2": "vessel"})
    assert rows[0].vessels and np.array_equal(labels[0], 2 * polygon(SQUARE))


def test_videos_of_the_same_name_in_several_folders(tmp_path) -> None:
    path = tmp_path / "set"
    for subject in ("anna", "ben"):
        write_video(path / subject / "v1.avi")
        write(path / subject / "masks/v1/v1_000.png", MASK)
    write(path / "subjects.csv", b"file,subject\nanna/v1.avi,A\nben/v1.avi,B\n")
    rows, _, log = ingest(path, tmp_path / "frames")
    assert [(row.subject, row.number) for row in rows] == [("A", 0), ("B", 0)]
    assert len(log.left_out) == 4
    (path / "subjects.csv").unlink()
    rows, _, _ = ingest(path, tmp_path / "more")
    assert [(row.subject, row.number) for row in rows] == [("v1", 1), ("v1", 2)]
    write(path / "masks/v1/v1_000.png", MASK)
    with pytest.raises(SourceError, match=r"masks/v1/v1_000\.png: belongs to one of several files of that name"):
        ingest(path, tmp_path / "even more")


def test_pictures_in_a_folder_of_a_videos_name_are_not_masks(tmp_path) -> None:
    """They can be frames of the video."""
    path = tmp_path / "set"
    write_video(path / "case7.avi")
    write(path / "case7/case7_000.jpg", encode(FRAMES[0], "JPEG"))
    write(path / "masks/case7/case7_000.png", MASK)
    with pytest.raises(SourceError, match=r"case7/case7_000\.jpg: is a frame without a mask"):
        ingest(path, tmp_path / "frames")


def test_a_video_without_masks_is_an_error(tmp_path) -> None:
    write(tmp_path / "set/a.mp4", b"")
    with pytest.raises(SourceError, match=r"a\.mp4: is a video without masks"):
        ingest(tmp_path / "set", tmp_path / "frames")
