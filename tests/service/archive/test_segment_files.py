"""Each file of an archive gets its outputs and its record once."""

import hashlib
import io
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import pytest
from pydicom import dcmread

from service.archive import segment_files
from service.archive.locations import list_source
from service.archive.result_store import ATTEMPTS, OutputError
from service.archive.segment_files import MAX_CRASHES, FileOutcome, FileSegmenter, location_key
from service.decoding.cine import Cine
from service.decoding.frame import Frame
from service.errors import ErrorCode, FrameError
from service.inference.segmentation_result import FrameResult
from service.inference.segmenter import Segmenter
from tests import frames
from tests.conftest import ROOT
from tests.dicoms import make_ultrasound, to_bytes


def rows_of(store) -> list[dict]:
    return [json.loads(line) for path in store.records.rglob("*.jsonl") for line in path.read_text().splitlines()]


def total(outcomes: list[FileOutcome]) -> FileOutcome:
    """Return the sums of the outcomes, without the reasons."""
    return FileOutcome(*(sum(values) for values in list(zip(*outcomes, strict=True))[:-1]))


def test_every_frame_gets_a_mask_and_a_row(source, open_store, segment_all, archive_segmenter) -> None:
    store = open_store()
    outcomes = segment_all(store, list_source(str(source)))
    # b.png, a.png and its copy, three frames of the cine; the damaged picture; the notes
    assert total(outcomes) == FileOutcome(segmented=5, done_before=1, skipped=1, failed=1)
    rows = rows_of(store)
    assert sorted(str(row.get("error")) for row in rows) == ["None"] * 5 + ["malformed"]
    digest = hashlib.sha256((source / "a.png").read_bytes()).hexdigest()
    mask = cv2.imread(str(store.output(digest, ".png")), cv2.IMREAD_UNCHANGED)
    expected = archive_segmenter.segment(Frame(frames.speckle(1, 60, 80)))
    assert np.array_equal(mask, expected.mask)
    (row,) = (row for row in rows if row["digest"] == digest)
    assert row["area_px"] == np.count_nonzero(mask)
    assert row["presence"] == pytest.approx(expected.presence, abs=1e-4)
    cine = hashlib.sha256((source / "nested" / "IM0001").read_bytes()).hexdigest()
    assert all(store.output(cine, ".png", index).exists() for index in range(3))
    assert {row["month"] for row in rows if row["digest"] == cine} == {"2026-11"}


def test_rows_hold_no_path_and_no_identifier_of_a_patient(source, open_store, segment_all) -> None:
    segment_all(open_store(), list_source(str(source)))
    written = b"".join(path.read_bytes() for path in (source.parent / "out").rglob("*") if path.is_file())
    names = "".join(str(path) for path in (source.parent / "out").rglob("*"))
    for secret in ("Doe", "Jane", "4711", "19700101", "20261123", "nested", "a again"):
        assert secret.encode() not in written
        assert secret not in names.replace(str(source.parent), "")


def test_paths_are_kept_if_asked(source, open_store, segment_all) -> None:
    store = open_store()
    segment_all(store, [source / "a.png"], keep_paths=True)
    assert [row["path"] for row in rows_of(store)] == [str(source / "a.png")]


def test_a_second_run_changes_nothing(source, open_store, segment_all) -> None:
    store = open_store()
    segment_all(store, list_source(str(source)))
    before = {path: path.stat().st_mtime_ns for path in store.folder.rglob("*") if path.is_file()}
    outcomes = segment_all(store, list_source(str(source)))
    assert total(outcomes) == FileOutcome(done_before=6, skipped=1, failed=1)
    assert before == {path: path.stat().st_mtime_ns for path in store.folder.rglob("*") if path.is_file()}


END_PROCESS = """
import os, sys
from pathlib import Path
from service.archive.result_store import ResultStore, model_key
from service.archive.segment_files import FileSegmenter
from service.inference.segmenter import Segmenter

segmenter = Segmenter(Path(sys.argv[1]))
segmenter.segment_cine_frame = lambda *_: os._exit(7)
store = ResultStore(Path(sys.argv[2]), model_key(segmenter.card), "mask")
print(FileSegmenter(segmenter, store, keep_paths=False).segment(sys.argv[3]))
"""


def test_a_file_that_ends_its_process_becomes_a_failure_and_the_next_run_tries_it_again(
    source, open_store, segment_all, model_folder
) -> None:
    store, file = open_store(), source / "a.png"
    command = [sys.executable, "-c", END_PROCESS, str(model_folder), str(store.folder), str(file)]
    ends = [subprocess.run(command, cwd=ROOT, capture_output=True, text=True) for _ in range(MAX_CRASHES + 1)]
    assert [end.returncode for end in ends] == [7] * MAX_CRASHES + [0], ends[-1].stderr
    assert "it ended 3 processes" in ends[-1].stdout
    assert [(row["error"], row["try_again"]) for row in rows_of(store)] == [("crashed", True)]
    assert total(segment_all(store, [file])) == FileOutcome(segmented=1)
    assert [row.get("error") for row in rows_of(store)] == [None]
    assert not [path for path in (store.folder / ATTEMPTS).rglob("*") if path.is_file()]


def test_a_crash_of_another_kind_of_output_keeps_the_good_rows(source, open_store, segment_all, model_folder) -> None:
    file = source / "a.png"
    segment_all(open_store("none"), [file])
    store = open_store()
    command = [sys.executable, "-c", END_PROCESS, str(model_folder), str(store.folder), str(file)]
    for _ in range(MAX_CRASHES + 1):
        end = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "failed=1" in end.stdout
    assert [row.get("error") for row in rows_of(store)] == [None]


def test_files_that_ended_a_process_come_last(source, open_store, archive_segmenter) -> None:
    store = open_store()
    files = FileSegmenter(archive_segmenter, store, keep_paths=False)
    locations = [str(source / name) for name in ("a.png", "nested/b.png", "damaged.png")]
    unfinished = store.attempt(location_key(locations[0]))
    unfinished.__enter__()  # as if the process had ended inside the block
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(files.segment_all(locations, pool))
    assert [location for location, _ in outcomes] == [*locations[1:], locations[0]]
    assert outcomes[-1][1] == FileOutcome(segmented=1)


def test_another_kind_of_output_is_made_later(source, open_store, segment_all) -> None:
    segment_all(open_store("none"), [source / "a.png"])
    overlays = open_store("overlay")
    assert total(segment_all(overlays, [source / "a.png"])).segmented == 1
    assert [path.suffix for path in (overlays.folder / "overlay").rglob("*.*")] == [".png"]
    assert len(rows_of(overlays)) == 1
    assert total(segment_all(open_store("none"), [source / "a.png"])).done_before == 1
    masks = open_store("mask")
    segment_all(masks, [source / "a.png"])
    assert total(segment_all(overlays, [source / "a.png"])).done_before == 1  # both kinds are there


def test_segmentations_are_those_of_the_service(open_store, segment_all, tmp_path) -> None:
    cine = np.stack([frames.speckle(seed, 60, 80) for seed in range(3)])
    (tmp_path / "cine.dcm").write_bytes(to_bytes(make_ultrasound(cine)))
    store = open_store("segmentation")
    assert segment_all(store, [tmp_path / "cine.dcm"]) == [FileOutcome(segmented=3)]
    (path,) = (store.folder / "segmentation").rglob("*.dcm")
    segmentation = dcmread(io.BytesIO(path.read_bytes()))
    assert segmentation.Modality == "SEG"
    assert segmentation.NumberOfFrames == 3


def test_an_output_that_cannot_be_made_costs_no_row(source, open_store, segment_all) -> None:
    segment_all(open_store("mask"), [source / "a.png"])
    (before,) = rows_of(open_store())
    (outcome,) = segment_all(open_store("segmentation"), [source / "a.png"])
    assert (outcome.segmented, outcome.failed) == (1, 1)
    (after,) = rows_of(open_store())
    assert after | {"milliseconds": 0} == before | {"milliseconds": 0}
    assert total(segment_all(open_store("mask"), [source / "a.png"])).done_before == 1


def test_a_segmentation_without_a_frame_is_not_written(source, open_store, segment_all, monkeypatch) -> None:
    store = open_store("segmentation")
    original = Segmenter.segment_cine_frame

    def fail_second(self: Segmenter, cine: Cine, index: int, *rest: Any) -> FrameResult:
        if index == 1:
            raise FrameError(ErrorCode.MALFORMED, "the second frame is damaged")
        return original(self, cine, index, *rest)

    monkeypatch.setattr(Segmenter, "segment_cine_frame", fail_second)
    (outcome,) = segment_all(store, [source / "nested" / "IM0001"])
    assert outcome.segmented == 2
    assert outcome.reasons == (
        "frame 1: the second frame is damaged",
        "no DICOM Segmentation: frame 1: the second frame is damaged",
    )
    assert not list(store.folder.rglob("*.dcm"))
    assert [(row["frame"], row.get("error"), row["outputs"]) for row in rows_of(store)] == [
        (0, None, []),
        (1, "malformed", []),
        (2, None, []),
    ]


def test_a_file_without_identity_keeps_its_rows(open_store, segment_all, tmp_path) -> None:
    ultrasound = make_ultrasound(frames.speckle(1, 60, 80))
    del ultrasound.StudyInstanceUID
    (tmp_path / "anonymous.dcm").write_bytes(to_bytes(ultrasound))
    segment_all(open_store("mask"), [tmp_path / "anonymous.dcm"])
    (outcome,) = segment_all(open_store("segmentation"), [tmp_path / "anonymous.dcm"])
    assert (outcome.segmented, outcome.failed) == (1, 1)
    assert "StudyInstanceUID" in outcome.reasons[0]
    assert [(row.get("error"), row["outputs"]) for row in rows_of(open_store())] == [(None, ["mask"])]


def test_a_frame_with_an_unexpected_error_costs_only_its_own_mask(source, open_store, segment_all, monkeypatch) -> None:
    original = Segmenter.segment_cine_frame

    def fail_first(self: Segmenter, cine: Cine, index: int, *rest: Any) -> FrameResult:
        if index == 0:
            raise KeyError("a bug")
        return original(self, cine, index, *rest)

    monkeypatch.setattr(Segmenter, "segment_cine_frame", fail_first)
    (outcome,) = segment_all(open_store(), [source / "nested" / "IM0001"])
    assert (outcome.segmented, outcome.failed) == (2, 1)
    assert [row.get("error") for row in rows_of(open_store())] == ["internal", None, None]


def test_a_failure_does_not_replace_good_rows(source, open_store, segment_all, monkeypatch) -> None:
    segment_all(open_store("mask"), [source / "a.png"])
    monkeypatch.setattr(segment_files, "BUSY_PAUSE_SECONDS", 0.0)

    def fail(*_: object) -> None:
        raise FrameError(ErrorCode.NO_MEMORY, "no memory now")

    monkeypatch.setattr(segment_files, "open_cine", fail)
    (outcome,) = segment_all(open_store("overlay"), [source / "a.png"])
    assert outcome.failed == 1
    assert [(row.get("error"), row["outputs"]) for row in rows_of(open_store())] == [(None, ["mask"])]


def test_an_unreadable_file_is_a_row_and_is_tried_again(source, open_store, segment_all) -> None:
    store = open_store()
    link = source / "link.png"
    link.symlink_to(source / "later.png")
    (outcome,) = segment_all(store, [link])
    assert (outcome.failed, outcome.reasons) == (1, ("No such file or directory",))
    assert [(row["error"], row["digest"]) for row in rows_of(store)] == [("unreadable", None)]
    (source / "later.png").write_bytes((source / "a.png").read_bytes())
    assert total(segment_all(store, [link])).segmented == 1
    assert [row.get("error") for row in rows_of(store)] == [None]


def test_a_frame_that_failed_for_a_while_is_tried_again(source, open_store, segment_all, monkeypatch) -> None:
    store = open_store()
    attempts = []

    def fail(*_: object) -> None:
        attempts.append(1)
        raise FrameError(ErrorCode.NO_DECODER, "stopped from outside")

    with monkeypatch.context() as patch:
        patch.setattr(segment_files, "BUSY_PAUSE_SECONDS", 0.0)
        patch.setattr(Segmenter, "segment_cine_frame", fail)
        assert total(segment_all(store, [source / "a.png"])).failed == 1
    assert len(attempts) == segment_files.BUSY_ATTEMPTS
    assert total(segment_all(open_store("none"), [source / "a.png"])) == FileOutcome(segmented=1)
    assert [(row.get("error"), row["outputs"]) for row in rows_of(store)] == [(None, [])]
    assert total(segment_all(store, [source / "a.png"])) == FileOutcome(segmented=1)  # now with its mask
    assert [path.suffix for path in (store.folder / "mask").rglob("*.*") if path.is_file()] == [".png"]


def test_a_bug_over_one_file_does_not_stop_the_others(source, open_store, segment_all, monkeypatch) -> None:
    monkeypatch.setattr(segment_files, "open_cine", lambda *_: {}["missing"])
    first, second = segment_all(open_store(), [source / "a.png", source / "nested" / "b.png"])
    assert first.reasons == ("KeyError: 'missing'",)
    assert second.failed == 1
    assert {row["error"] for row in rows_of(open_store())} == {"internal"}


def test_a_name_in_another_encoding_is_read(source, open_store, segment_all) -> None:
    location = os.fsdecode(os.fsencode(source) + b"/M\xfcller.png")
    os.rename(source / "a.png", location)
    assert location in list_source(str(source))
    assert total(segment_all(open_store(), [location], keep_paths=True)).segmented == 1
    assert rows_of(open_store())[0]["path"].endswith("M\\udcfcller.png")
    assert total(segment_all(open_store(), [location + ".gone"])).failed == 1


def test_a_broken_record_is_written_again(source, open_store, segment_all) -> None:
    store = open_store()
    segment_all(store, [source / "a.png"])
    (record,) = store.records.rglob("*.jsonl")
    record.write_bytes(record.read_bytes()[:50])
    assert total(segment_all(store, [source / "a.png"])).segmented == 1
    assert len(rows_of(store)) == 1


def test_the_same_file_in_many_places_at_once(tmp_path, open_store, segment_all) -> None:
    data = frames.png(frames.speckle(1, 60, 80))
    paths = [tmp_path / f"{number}.png" for number in range(40)]
    for path in paths:
        path.write_bytes(data)
    store = open_store()
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(lambda path: segment_all(store, [path])[0], paths))
    assert total(outcomes).segmented + total(outcomes).done_before == 40
    assert len(rows_of(store)) == 1
    assert not [path for path in store.folder.rglob(".*") if path.is_file()]


def test_a_picture_of_a_format_that_is_not_read_has_a_row(source, open_store, segment_all) -> None:
    (source / "frame").write_bytes(b"GIF89a" + bytes(600))
    (outcome,) = segment_all(open_store(), [source / "frame"])
    assert outcome.failed == 1
    assert [row["error"] for row in rows_of(open_store())] == ["unknown_type"]


def test_a_pipe_is_not_waited_for(source, open_store, segment_all) -> None:
    os.mkfifo(source / "pipe.png")
    (outcome,) = segment_all(open_store(), [source / "pipe.png"])
    assert outcome.reasons == ("it is not a regular file",)


def test_a_file_in_place_of_the_output_folder_stops_the_job(source, open_store, segment_all) -> None:
    store = open_store()
    store.folder.mkdir()
    (store.folder / "mask").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        segment_all(store, [source / "a.png"])
    assert rows_of(store) == []
