"""The response of /dicom: a DICOM Segmentation of all frames."""

from collections import Counter
from collections.abc import Iterator
from itertools import chain

import numpy as np
from starlette.responses import Response

from service.api.deferred_response import DeferredResponse, ReportStep
from service.api.error_responses import frame_error_response
from service.api.frame_request import FrameRequest
from service.api.response_bodies import model_headers
from service.decoding.cine import Cine
from service.errors import ErrorCode, FrameError
from service.inference.segmentation_result import MIN_CONFIDENCE, FrameFailure


def dicom_response(request: FrameRequest) -> DeferredResponse:
    """Return the response with the DICOM Segmentation of the uploaded DICOM file. Raises FrameError."""
    from service.decoding.dicom.dicom_cine import DicomCine  # pydicom and highdicom would slow every start
    from service.rendering.dicom_segmentation import build_dicom_segmentation, has_outlines
    from service.rendering.dicom_segmentation_source import invalid_value_notes

    request.read_settings(default_min_confidence=MIN_CONFIDENCE)
    cine = request.open_cine()
    if not isinstance(cine, DicomCine):
        raise FrameError(ErrorCode.NOT_DICOM, "A DICOM Segmentation refers to a DICOM file: upload one.")
    notes = cine.notes + invalid_value_notes(cine.header)

    def compute(report_step: ReportStep) -> Response:
        frame_notes: dict[int, tuple[str, ...]] = {}
        try:
            with_outlines = has_outlines(request.card, request.state.settings)
            masks = _segment_all(request, cine, report_step, frame_notes, with_outlines)
            data = build_dicom_segmentation(cine.header, masks, request.card, request.state.settings, frame_notes)
        except FrameError as error:
            return frame_error_response(error)
        headers = model_headers(request.card, notes + _count_notes(frame_notes, cine.frame_count))
        return Response(data, media_type="application/dicom", headers=headers)

    return DeferredResponse(compute)


def _count_notes(frame_notes: dict[int, tuple[str, ...]], frame_count: int) -> tuple[str, ...]:
    """Return each note with the number of frames that have it."""
    counts = Counter(chain.from_iterable(frame_notes.values()))
    return tuple(f"{count} of {frame_count} frames: {note}" for note, count in counts.items())


def _segment_all(
    request: FrameRequest,
    cine: Cine,
    report_step: ReportStep,
    frame_notes: dict[int, tuple[str, ...]],
    with_outlines: bool,
) -> Iterator[np.ndarray]:
    """Yield the masks of all segments of all frames, each uint8 (height, width), 0 or 255.

    They are empty where the service abstains.

    with_outlines: the outer and the inner region follow each mask.

    report_step: called after each frame.
    frame_notes: gets the notes on each mask that has some, by frame, from 0.

    Raises the FrameError of a frame that has no mask: a segmentation without it would look complete.
    """
    outcomes = chain.from_iterable(request.segment_cine(cine, lambda result: result.segmentation))
    for index, outcome in enumerate(outcomes):
        if isinstance(outcome, FrameFailure):
            raise outcome.error
        report_step()
        if notes := outcome.all_notes:
            frame_notes[index] = notes
        yield outcome.mask
        if with_outlines:
            empty = np.zeros_like(outcome.mask)
            yield from (outcome.outlines.outer, outcome.outlines.inner) if outcome.outlines else (empty, empty)
