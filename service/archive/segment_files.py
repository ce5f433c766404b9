"""Segment input files one by one, and write the outputs and the record of each."""

import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from service.api.response_bodies import draw_result
from service.archive.frame_rows import CRASHED, UNREADABLE, error_row, frame_row
from service.archive.locations import is_web_url, open_location
from service.archive.result_store import NO_OUTPUT, OutputError, ResultStore, Row
from service.clients.output_files import FRAME_SUFFIXES
from service.clients.retries import BUSY_STATUSES
from service.decoding.cine import Cine, open_cine
from service.decoding.dicom_signature import HEAD_BYTES, find_start
from service.decoding.file_formats import Format, detect_format
from service.errors import ErrorCode, FrameError
from service.inference.segmentation_result import MIN_CONFIDENCE, FrameResult
from service.inference.segmenter import Segmenter
from service.rendering.image_encoding import encode_png
from service.resources.worker_memory import RequestMemory

log = logging.getLogger("nervemask.archive")

SEGMENTATION = "segmentation"
PICTURES: dict[str, Callable[[FrameResult], np.ndarray]] = {
    "mask": lambda result: result.segmentation.mask,
    "overlay": draw_result,
}
OUTPUT_KINDS = (*PICTURES, SEGMENTATION, NO_OUTPUT)
DATE_KEYWORDS = ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate")
BUSY_ATTEMPTS, BUSY_PAUSE_SECONDS = 5, 2.0
MAX_CRASHES = 3  # a file that ends its actor would otherwise be tried again without end
# Another node, or fewer actors on it, may have the memory.
MEMORY_CODES = (ErrorCode.TOO_MANY_PIXELS, ErrorCode.TOO_LARGE)


class FileOutcome(NamedTuple):
    """What became of one input file.

    segmented: frames that got a mask now. done_before: frames that had one. skipped: 1 if the file is no ultrasound.
    failed: frames without a mask or without the output, or 1 for a whole file. reasons: of the failures.
    """

    segmented: int = 0
    done_before: int = 0
    skipped: int = 0
    failed: int = 0
    reasons: tuple[str, ...] = ()


class FileSegmenter:
    """Segments files and stores their results. Threads may share it.

    keep_paths: write the location of each file into its rows.
    """

    def __init__(self, segmenter: Segmenter, store: ResultStore, keep_paths: bool):
        self.segmenter, self.store, self.keep_paths = segmenter, store, keep_paths

    def segment_all(self, locations: list[str], pool: Executor) -> Iterator[tuple[str, FileOutcome]]:
        """Segment files. Yield each with its outcome.

        Files that ended a process before come last, one at a time: they must not take the others with them again.
        """
        attempted = self.store.attempted()
        alone = [location for location in locations if location_key(location) in attempted]
        others = [location for location in locations if location_key(location) not in attempted]
        yield from zip(others, pool.map(self.segment, others), strict=True)
        yield from ((location, self.segment(location)) for location in alone)

    def segment(self, location: str) -> FileOutcome:
        """Segment one file, unless an earlier run did. Raises OutputError if the results cannot be written."""
        try:
            with open_location(location) as file:
                return self._segment_opened(location, file)
        except OutputError:
            raise
        except OSError as error:
            reason = error.strerror or str(error)
            self._write(location_key(location), [error_row(UNREADABLE, None, True) | {"digest": None}], location, None)
        except Exception as error:  # the other files must still get their masks
            log.exception("a file cannot be segmented")
            reason = f"{type(error).__name__}: {error}"
            row = error_row(ErrorCode.INTERNAL, None, True) | {"digest": None}
            self._write(location_key(location), [row], location, None)
        return FileOutcome(failed=1, reasons=(reason,))

    def _segment_opened(self, location: str, file: IO[bytes]) -> FileOutcome:
        self.store.remove_record(location_key(location))
        if not is_frame_file(location, file):
            return FileOutcome(skipped=1)
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type] # they have `readinto`
        before = self.store.read_record(digest)
        if self.store.is_finished(before):
            errors = tuple(f"it failed before ({row['error']})" for row in before if row.get("error"))
            return FileOutcome(done_before=len(before) - len(errors), failed=len(errors), reasons=errors)
        with self.store.attempt(location_key(location)) as crashes:
            if crashes < MAX_CRASHES:
                return self._segment_digest(location, file, digest)
            if not any(row.get("error") is None for row in before):  # the good rows stay
                self._write(digest, [error_row(CRASHED, None, True)], location, None)
            return FileOutcome(failed=1, reasons=(f"it ended {crashes} processes",))

    def _segment_digest(self, location: str, file: IO[bytes], digest: str) -> FileOutcome:
        """Segment a file that is not finished."""
        for attempt in range(1, BUSY_ATTEMPTS + 1):
            work = FileWork(self.segmenter, self.store, digest)
            try:
                work.segment(file)
            except FrameError as error:
                if error.status in BUSY_STATUSES and attempt < BUSY_ATTEMPTS:
                    time.sleep(BUSY_PAUSE_SECONDS)
                    continue
                if error.code is ErrorCode.NOT_ULTRASOUND:
                    return FileOutcome(skipped=1)
                work.fail(error, None)
            break
        before = self.store.read_record(digest)  # another run may have written it meanwhile
        if any(row["frame"] is None for row in work.rows) and any(row.get("error") is None for row in before):
            return FileOutcome(failed=len(work.reasons), reasons=tuple(work.reasons))  # the good rows stay
        made_before = {row["frame"]: row["outputs"] for row in before}
        for row in work.rows:
            row["outputs"] = sorted({*row.get("outputs", ()), *made_before.get(row["frame"], ())})
        self._write(digest, work.rows, location, work.month)
        segmented = sum(row.get("error") is None for row in work.rows)
        return FileOutcome(segmented, failed=len(work.reasons), reasons=tuple(work.reasons))

    def _write(self, digest: str, rows: list[Row], location: str, month: str | None) -> None:
        """Write the record of a file: the rows with what they share."""
        card = self.segmenter.card
        shared: Row = {
            "digest": digest,
            "month": month or _month_of_file(location),
            "model_version": card.version,
            "model_run": card.run_id,
            "outputs": [],
            "path": printable_location(location) if self.keep_paths else None,
        }
        self.store.write_record(digest, [shared | row for row in rows])


class FileWork:
    """The work on one file.

    rows: of its frames. reasons: of the failures, for the console. month: of the study.
    """

    def __init__(self, segmenter: Segmenter, store: ResultStore, digest: str):
        self.segmenter, self.store, self.digest = segmenter, store, digest
        self.rows: list[Row] = []
        self.reasons: list[str] = []
        self.month: str | None = None

    def fail(self, error: FrameError, index: int | None) -> None:
        """Add the row of the whole file, or of a frame, that has no mask."""
        self.reasons.append(error.message if index is None else f"frame {index}: {error.message}")
        try_again = error.status >= 429 or error.code in MEMORY_CODES
        self.rows.append(error_row(error.code, index, try_again))

    def segment(self, file: IO[bytes]) -> None:
        """Segment all frames and write the output files. Raises FrameError for a file that cannot be opened."""
        memory = RequestMemory(self.digest)
        file.seek(0)
        try:
            cine = open_cine(file, memory)
            self.month = study_month(cine)
            if self.store.kind == SEGMENTATION:
                self._write_dicom_segmentation(cine, memory)
            else:
                self._write_pictures(cine, memory)
        finally:
            memory.release()

    def _results(self, cine: Cine, memory: RequestMemory) -> Iterator[FrameResult | None]:
        """Yield the result of each frame and add its row; yield None for a frame that failed."""
        for index in range(cine.frame_count):
            result = None
            try:
                result = self.segmenter.segment_cine_frame(cine, index, memory)
                self.rows.append(frame_row(result, self.segmenter.card))
            except FrameError as error:
                if error.status in BUSY_STATUSES:
                    raise  # for the whole file, which is then tried again
                self.fail(error, index)
            except OSError:
                raise
            except Exception as error:  # the other frames must still get their masks
                log.exception("a frame cannot be segmented")
                self.fail(FrameError(ErrorCode.INTERNAL, f"{type(error).__name__}: {error}"), index)
            yield result
            memory.shrink_only_frame(0)

    def _write_pictures(self, cine: Cine, memory: RequestMemory) -> None:
        draw = PICTURES.get(self.store.kind)
        for index, result in enumerate(self._results(cine, memory)):
            if draw and result:
                data = encode_png(draw(result))
                self.store.write_output(self.digest, ".png", index if cine.frame_count > 1 else None, data)
                self.rows[-1]["outputs"] = [self.store.kind]

    def _write_dicom_segmentation(self, cine: Cine, memory: RequestMemory) -> None:
        """Write the DICOM Segmentation of all frames, if all have a mask: one without some would look complete."""
        from service.decoding.dicom.dicom_cine import DicomCine  # pydicom and highdicom take a second to load
        from service.rendering.dicom_segmentation import build_dicom_segmentation

        notes: dict[int, tuple[str, ...]] = {}

        def masks() -> Iterator[np.ndarray]:
            for index, result in enumerate(self._results(cine, memory)):
                if not result:
                    continue
                answer = result.abstain_below(MIN_CONFIDENCE).segmentation
                if answer.all_notes:
                    notes[index] = answer.all_notes
                yield answer.mask

        try:
            if not isinstance(cine, DicomCine):
                raise FrameError(ErrorCode.NOT_DICOM, "it refers to a DICOM file")
            data = build_dicom_segmentation(cine.header, masks(), self.segmenter.card, frame_notes=notes)
        except FrameError as error:
            if error.status in BUSY_STATUSES:
                raise
            reason = error.message
        except Exception as error:  # too few masks, for example
            reason = self.reasons[0] if self.reasons else f"{type(error).__name__}: {error}"
        else:
            if not self.reasons:
                self.store.write_output(self.digest, ".dcm", None, data)
                for row in self.rows:
                    row["outputs"] = [SEGMENTATION]
                return
            reason = self.reasons[0]
        self.rows, self.reasons = [], []  # the building may have ended before the last frame
        for _ in self._results(cine, memory):
            pass
        self.reasons.append(f"no DICOM Segmentation: {reason}")


def location_key(location: str) -> str:
    """Return the name of the record of a file that cannot be read: its own digest is not known."""
    return hashlib.sha256(b"location " + os.fsencode(location)).hexdigest()


def printable_location(location: str) -> str:
    """Return a location as text that UTF-8 can hold: names of files may be in another encoding."""
    return location.encode("utf-8", "backslashreplace").decode()


def is_frame_file(location: str, file: IO[bytes]) -> bool:
    """Return whether a file is taken for a frame or cine: by its suffix, or by its first bytes.

    It is also one if its format is known, but not read.
    """
    name = Path(location).name.lower()
    if name.endswith(FRAME_SUFFIXES) or is_web_url(location):
        return True
    head = file.read(HEAD_BYTES)
    found = detect_format(head)
    is_picture = isinstance(found, Format) or (found or "").endswith((" picture", " video"))
    return name != "dicomdir" and (find_start(head) is not None or is_picture)


def study_month(cine: Cine) -> str | None:
    """Return the month of a DICOM study as YYYY-MM; None if the file does not say it."""
    header = getattr(cine, "header", None)
    dates = (str(header.get(keyword) or "") for keyword in DATE_KEYWORDS) if header else ()
    return next((f"{date[:4]}-{date[4:6]}" for date in dates if len(date) == 8 and date.isdigit()), None)


def _month_of_file(location: str) -> str | None:
    """Return the month of a local file's last change as YYYY-MM."""
    if "://" in location:
        return None
    try:
        return datetime.fromtimestamp(Path(location).stat().st_mtime, UTC).strftime("%Y-%m")
    except (OSError, ValueError):
        return None
