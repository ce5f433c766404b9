"""The layout of data/frames: what is written is read back."""

import numpy as np
import pytest

from tests.frames import disc, png
from training.data.frame_mask_pair import FrameMaskPair
from training.data.manifest import read_frame, read_labels, read_manifest, write_pairs
from training.data.source_errors import IngestLog, SourceError


def pair(subject: str, number: int, **fields) -> FrameMaskPair:
    labels = np.zeros((20, 30), np.uint8)
    labels[5:10, 5:10] = 1
    return FrameMaskPair(png(disc(20, 30)), ".png", labels, subject, number, **fields)


def test_the_manifest_is_read_back(tmp_path):
    unlabelled = FrameMaskPair(png(disc(40, 16)), ".png", None, "test", 1)
    pairs = [pair("1", 1, spacing_mm=0.1), pair("1", 2, vessels=True, licence='a "licence"'), unlabelled]
    rows = write_pairs(pairs, tmp_path, "a source, with a comma", IngestLog(False))
    assert read_manifest(tmp_path) == rows
    assert [(row.spacing_mm, row.vessels, row.nerve_px) for row in rows] == [(0.1, 0, 25), (None, 1, 25), (None, 0, 0)]
    assert (rows[2].mask, rows[2].height, rows[2].width) == ("", 40, 16)


def test_frames_and_labels_are_read_back(tmp_path):
    first = pair("1", 1)
    (row,) = write_pairs([first], tmp_path, "s", IngestLog(False))
    assert (tmp_path / row.frame).read_bytes() == first.frame_file
    assert np.array_equal(read_frame(row, tmp_path).pixels, disc(20, 30))
    assert np.array_equal(read_labels(row, tmp_path), first.labels)


def test_rows_are_sorted_by_subject_and_number_as_numbers(tmp_path):
    keys = [("test", 1), ("10", 1), ("2", 10), ("2", 9), ("b", 1)]
    rows = write_pairs([pair(*key) for key in keys], tmp_path, "s", IngestLog(False))
    assert [(row.subject, row.number) for row in rows] == [("2", 9), ("2", 10), ("10", 1), ("b", 1), ("test", 1)]


def test_only_one_pair_is_in_memory_at_a_time(tmp_path):
    files_on_disk = []

    def pairs():
        for number in range(3):
            files_on_disk.append(len(list((tmp_path / "frames").iterdir())))
            yield pair("1", number)

    write_pairs(pairs(), tmp_path, "s", IngestLog(False))
    assert files_on_disk == [0, 1, 2]


def test_a_source_without_masks_is_an_error(tmp_path):
    with pytest.raises(SourceError, match="has no frame with a mask"):
        write_pairs([FrameMaskPair(png(disc(20, 30)), ".png", None, "test", 1)], tmp_path, "s", IngestLog(False))
