"""Segment input files one by one, and write the outputs and the record of each."""

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from service.api.response_bodies import draw_result
from service.archive.frame_rows import error_row, frame_row
from service.archive.locations import open_location
from service.archive.result_store import ResultStore
from service.clients.output_files import FRAME_SUFFIXES
from service.decoding.cine import Cine, open_cine
from service.decoding.dicom_signature import HEAD_BYTES, find_start
from service.decoding.file_formats import Format, detect_format
from service.errors import ErrorCode, FrameError
from service.inference.segmentation_result import MIN_CONFIDENCE, FrameResult
from service.inference.segmenter import Segmenter
from service.rendering.image_encoding import encode_png
from service.resources.worker_memory import RequestMemory

log = logging.getLogger("nervemask.archive")

PICTURES: dict[str, Callable[[FrameResult], np.ndarray]] = {
    "mask": lambda result: result.segmentation.mask,
    "overlay": draw_result,
}
OUTPUT_KINDS = (*PICTURES, "segmentation", "none")
DATE_KEYWORDS = ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate")
UNREADABLE = "unreadable"  # the error code of a file that cannot be opened or fetched


class FileOutcome(NamedTuple):
    """What became of one input file.

    segmented: frames that got a mask now. done_before: frames of an earlier run. skipped: 1 if the file is no
    ultrasound. failed: frames without a mask, or 1 for a whole file. reasons: of the failures, for the console.
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

    def segment(self, location: str) -> FileOutcome:
        """Segment one file, unless an earlier run did. Raises OutputError if the results cannot be written."""
        try:
            with open_location(location) as file:
                return self._segment_opened(location, file)
        except OSError as error:
            message = error.strerror or str(error)
            row = {"digest": None, "error": UNREADABLE, "try_again": True}
            self._write(_location_key(location), [row], location, None)
            return FileOutcome(failed=1, reasons=(message,))

    def _segment_opened(self, location: str, file: IO[bytes]) -> FileOutcome:
        if not is_frame_file(location, file):
            return FileOutcome(skipped=1)
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type] # they have `readinto`
        self.store.remove_record(_location_key(location))
        before = self.store.read_record(digest)
        if self.store.is_finished(before):
            return FileOutcome(done_before=len(before))
        memory = RequestMemory("archive")
        reasons: list[str] = []
        month = None
        try:
            cine = open_cine(file, memory)
            month = study_month(cine)
            rows = self._segment_cine(cine, digest, memory, reasons)
        except FrameError as error:
            if error.code is ErrorCode.NOT_ULTRASOUND:
                return FileOutcome(skipped=1)
            rows = _failed(error, None, reasons)
        finally:
            memory.release()
        self._write(digest, rows, location, month, before[0]["outputs"] if before else [])
        return FileOutcome(len(rows) - len(reasons), failed=len(reasons), reasons=tuple(reasons))

    def _segment_cine(self, cine: Cine, digest: str, memory: RequestMemory, reasons: list[str]) -> list[dict[str, Any]]:
        """Segment all frames and write the output files; return the rows. Raises FrameError for a whole file."""
        if self.store.kind == "segmentation":
            return self._write_dicom_segmentation(cine, digest, memory)
        rows: list[dict[str, Any]] = []
        draw = PICTURES.get(self.store.kind)
        for index in range(cine.frame_count):
            try:
                result = self._segment_frame(cine, index, memory)
            except FrameError as error:
                rows += _failed(error, index, reasons)
                continue
            if draw:
                data = encode_png(draw(result))
                self.store.write_output(digest, ".png", index if cine.frame_count > 1 else None, data)
            rows.append(frame_row(result, self.segmenter.card))
        return rows

    def _segment_frame(self, cine: Cine, index: int, memory: RequestMemory) -> FrameResult:
        try:
            return self.segmenter.segment_cine_frame(cine, index, memory)
        except FrameError:
            raise
        except Exception as error:  # the other files must still get their masks
            log.exception("a frame cannot be segmented")
            raise FrameError(ErrorCode.INTERNAL, f"{type(error).__name__}: {error}") from error
        finally:
            memory.shrink_only_frame(0)

    def _write_dicom_segmentation(self, cine: Cine, digest: str, memory: RequestMemory) -> list[dict[str, Any]]:
        """Write the DICOM Segmentation of all frames; return the rows. A frame without a mask fails the file."""
        from service.decoding.dicom.dicom_cine import DicomCine  # pydicom and highdicom take a second to load
        from service.rendering.dicom_segmentation import build_dicom_segmentation

        if not isinstance(cine, DicomCine):
            raise FrameError(ErrorCode.NOT_DICOM, "A DICOM Segmentation refers to a DICOM file.")
        rows: list[dict[str, Any]] = []
        notes: dict[int, tuple[str, ...]] = {}

        def masks() -> Iterator[np.ndarray]:
            for index in range(cine.frame_count):
                result = self._segment_frame(cine, index, memory)
                answer = result.abstain_below(MIN_CONFIDENCE).segmentation
                rows.append(frame_row(result, self.segmenter.card))
                if answer.all_notes:
                    notes[index] = answer.all_notes
                yield answer.mask

        data = build_dicom_segmentation(cine.header, masks(), self.segmenter.card, frame_notes=notes)
        self.store.write_output(digest, ".dcm", None, data)
        return rows

    def _write(
        self,
        digest: str,
        rows: list[dict[str, Any]],
        location: str,
        month: str | None,
        outputs_before: Iterable[str] = (),
    ) -> None:
        """Write the record of a file: the rows with what they share. outputs_before: kinds that earlier runs made."""
        card = self.segmenter.card
        shared = {
            "digest": digest,
            "month": month or _month_of_file(location),
            "model_version": card.version,
            "model_run": card.run_id,
            "outputs": sorted({*outputs_before, self.store.kind} - {"none"}),
            "path": location if self.keep_paths else None,
        }
        self.store.write_record(digest, [shared | row for row in rows])


def _failed(error: FrameError, index: int | None, reasons: list[str]) -> list[dict[str, Any]]:
    """Return the row of a failure, and add its reason."""
    reasons.append(error.message if index is None else f"frame {index}: {error.message}")
    return [error_row(error, index)]


def _location_key(location: str) -> str:
    """Return the name of the record of a file that cannot be read: its own digest is not known."""
    return hashlib.sha256(f"location {location}".encode()).hexdigest()


def is_frame_file(location: str, file: IO[bytes]) -> bool:
    """Return whether a file is taken for a frame or cine: by its suffix, or by its first bytes."""
    name = Path(location.partition("?")[0]).name.lower()
    if name.endswith(FRAME_SUFFIXES):
        return True
    head = file.read(HEAD_BYTES)
    return name != "dicomdir" and (find_start(head) is not None or isinstance(detect_format(head), Format))


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
    except OSError:
        return None
