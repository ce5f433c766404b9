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
from service.inference.segmentation_result import FrameFailure


def dicom_response(request: FrameRequest) -> DeferredResponse:
    """Return the response with the DICOM Segmentation of the uploaded DICOM file. Raises FrameError."""
    from service.decoding.dicom.dicom_cine import DicomCine  # pydicom and highdicom would slow every start
    from service.rendering.dicom_segmentation import build_dicom_segmentation
    from service.rendering.dicom_segmentation_source import invalid_value_notes

    cine = request.open_cine()
    if not isinstance(cine, DicomCine):
        raise FrameError(ErrorCode.NOT_DICOM, "A DICOM Segmentation refers to a DICOM file: upload one.")
    headers = model_headers(request.card, cine.notes + invalid_value_notes(cine.header))

    def compute(report_step: ReportStep) -> Response:
        try:
            data = build_dicom_segmentation(cine.header, _segment_all(request, cine, report_step), request.card)
        except FrameError as error:
            return frame_error_response(error)
        return Response(data, media_type="application/dicom", headers=headers)

    return DeferredResponse(compute)


def _segment_all(request: FrameRequest, cine: Cine, report_step: ReportStep) -> Iterator[np.ndarray]:
    """Yield the masks of all frames, each uint8 (height, width), 0 or 255.

    report_step: called after each frame.

    Raises the FrameError of a frame that has no mask: a segmentation without it would look complete.
    """
    for outcome in chain.from_iterable(request.segment_cine(cine, lambda result: result.segmentation.mask)):
        if isinstance(outcome, FrameFailure):
            raise outcome.error
        report_step()
        yield outcome
