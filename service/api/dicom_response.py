"""The response of /dicom: a DICOM Segmentation of all frames."""

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
from service.inference.segmentation_result import MIN_CONFIDENCE, FrameFailure, FrameResult


def dicom_response(request: FrameRequest) -> DeferredResponse:
    """Return the response with the DICOM Segmentation of the uploaded DICOM file. Raises FrameError."""
    from service.decoding.dicom.dicom_cine import DicomCine  # pydicom and highdicom would slow every start
    from service.rendering.dicom_segmentation import build_dicom_segmentation
    from service.rendering.dicom_segmentation_source import invalid_value_notes

    request.read_min_confidence(default=MIN_CONFIDENCE)
    cine = request.open_cine()
    if not isinstance(cine, DicomCine):
        raise FrameError(ErrorCode.NOT_DICOM, "A DICOM Segmentation refers to a DICOM file: upload one.")
    notes = cine.notes + invalid_value_notes(cine.header)

    def compute(report_step: ReportStep) -> Response:
        left_out: list[int] = []
        try:
            masks = _segment_all(request, cine, report_step, left_out)
            data = build_dicom_segmentation(cine.header, masks, request.card, request.state.min_confidence)
        except FrameError as error:
            return frame_error_response(error)
        headers = model_headers(request.card, notes + left_out_notes(len(left_out), cine, request.state.min_confidence))
        return Response(data, media_type="application/dicom", headers=headers)

    return DeferredResponse(compute)


def left_out_notes(left_out: int, cine: Cine, min_confidence: float) -> tuple[str, ...]:
    """Return the note on the frames from whose answer the service abstained; nothing without any."""
    note = f"the masks of {left_out} of {cine.frame_count} frames are left out: confidence below {min_confidence:g}"
    return (note,) if left_out else ()


def _segment_all(
    request: FrameRequest, cine: Cine, report_step: ReportStep, left_out: list[int]
) -> Iterator[np.ndarray | None]:
    """Yield the masks of all frames, each uint8 (height, width), 0 or 255; None where the service abstains.

    report_step: called after each frame.
    left_out: gets the numbers of the frames without a mask.

    Raises the FrameError of a frame that has no mask: a segmentation without it would look complete.
    """

    def mask(result: FrameResult) -> np.ndarray | None:
        return None if result.segmentation.abstained else result.segmentation.mask

    for number, outcome in enumerate(chain.from_iterable(request.segment_cine(cine, mask))):
        if isinstance(outcome, FrameFailure):
            raise outcome.error
        report_step()
        if outcome is None:
            left_out.append(number)
        yield outcome
