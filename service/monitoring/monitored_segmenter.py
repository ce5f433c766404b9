"""A segmenter that records each result in the audit log, Prometheus metrics, drift and the review spool."""

import logging
from collections.abc import Iterator
from pathlib import Path

from service.decoding.cine import Cine
from service.errors import ErrorCode, FrameError, too_slow_error
from service.inference.results import FrameFailure, FrameResult
from service.inference.segmenter import Segmenter
from service.monitoring import audit_log
from service.monitoring.drift import Drift
from service.monitoring.prometheus_metrics import (
    CONFIDENCE,
    ERRORS_TOTAL,
    FRAME_PIXELS,
    FRAMES_TOTAL,
    MODEL_INFO,
    PRESENCE,
    STEP_DURATION_SECONDS,
)
from service.monitoring.review_spool import open_review_spool
from service.request import RequestState

log = logging.getLogger("bentoml.nervemask")


class MonitoredSegmenter:
    """Segments frames and records each result before it returns it. Thread-safe."""

    def __init__(self, segmenter: Segmenter):
        self.segmenter = segmenter
        self.card = segmenter.card
        self.drift = Drift(self.card)
        self.review_spool = open_review_spool()
        self.model_info = MODEL_INFO.labels(self.card.name, self.card.version, self.card.run_id)

    @property
    def folder(self) -> Path:
        """Return the model folder."""
        return self.segmenter.folder

    @property
    def device(self) -> str:
        """Return the name of the device that runs the network."""
        return self.segmenter.runtime.device

    def activate(self) -> None:
        """Report this model as the deployed champion."""
        self.model_info.set(1)

    def deactivate(self) -> None:
        """Report this model and its drift no longer: another champion is deployed."""
        self.model_info.set(0)
        self.drift.reset()

    def segment_cine_frame(self, cine: Cine, index: int, request: RequestState) -> FrameResult:
        """Segment one frame of a cine. Raises FrameError."""
        return self._record(self.segmenter.segment_cine_frame(cine, index, request.memory), request)

    def segment_cine(self, cine: Cine, request: RequestState) -> Iterator[list[FrameResult | FrameFailure]]:
        """Yield the results of all frames in order, in lists, as soon as they are ready.

        Raises FrameError (504) once `request` is abandoned.
        """
        for outcomes in self.segmenter.segment_cine(cine, request.memory):
            if request.abandoned:
                raise too_slow_error()
            yield [self._record_outcome(outcome, request) for outcome in outcomes]

    def _record_outcome(self, outcome: FrameResult | FrameFailure, request: RequestState) -> FrameResult | FrameFailure:
        if isinstance(outcome, FrameFailure):
            record_failure(outcome.error, request, outcome.index)
            return outcome
        try:
            return self._record(outcome, request)
        except FrameError as error:
            return FrameFailure(outcome.frame.index, error)

    def _record(self, result: FrameResult, request: RequestState) -> FrameResult:
        """Write the audit line, then the metrics. Raises FrameError (503) if the audit line cannot be written."""
        frame_fields = audit_log.frame_fields(result, self.card)
        try:
            audit_log.write({**audit_log.request_fields(request), "status": 200, **frame_fields})
        except OSError as error:
            log.error("the audit log cannot be written, so no mask is returned: %s", error)
            message = "The service cannot write its audit log and returns no masks now."
            raise FrameError(ErrorCode.NO_AUDIT, message) from error
        request.audited = True
        _observe(result)
        self.drift.update(result)
        if self.review_spool:
            self.review_spool.keep(result)
        return result


def record_failure(error: FrameError, request: RequestState, index: int | None = None) -> None:
    """Record a frame of a cine or stream that got no mask.

    index: position in the cine, from 0. None: the error is of the whole file.
    """
    ERRORS_TOTAL.labels(error.code).inc()
    line = audit_log.request_fields(request)
    if index is not None:
        line["index"] = index
    request.count_ended_decoders(error)
    audit_log.write_or_log({**line, "status": error.status, "code": error.code})


def _observe(result: FrameResult) -> None:
    """Update the Prometheus metrics of frames."""
    frame, segmentation = result.frame, result.segmentation
    STEP_DURATION_SECONDS.labels("decode").observe(result.decode_milliseconds / 1000)
    STEP_DURATION_SECONDS.labels("network").observe(segmentation.milliseconds / 1000)
    FRAMES_TOTAL.labels(str(segmentation.present).lower()).inc()
    PRESENCE.observe(segmentation.presence)
    if segmentation.confidence is not None:
        CONFIDENCE.observe(segmentation.confidence)
    FRAME_PIXELS.observe(frame.height * frame.width)
