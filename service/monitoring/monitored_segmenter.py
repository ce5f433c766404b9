"""A segmenter that records each result in the audit log, Prometheus metrics, drift and the review spool."""

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from service.decoding.cine import Cine
from service.errors import ErrorCode, FrameError, too_slow_error
from service.inference.segmentation_result import FrameFailure, FrameResult
from service.inference.segmenter import Segmenter
from service.inference.temporal_smoothing import TemporalSmoother
from service.monitoring import audit_log
from service.monitoring.drift import Drift, DriftFeatures, drift_features
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
from service.request_state import RequestState

log = logging.getLogger("bentoml.nervemask")
T = TypeVar("T")


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

    def segment_cine_frame(
        self, cine: Cine, index: int, request: RequestState, render: Callable[[FrameResult], T]
    ) -> T:
        """Return `render` of the result of one frame; meanwhile its audit line is written. Raises FrameError."""
        result = self.segmenter.segment_cine_frame(cine, index, request.memory, request.settings.outlines)
        answer = result.abstain_below(request.settings.min_confidence)
        fields = audit_log.frame_fields(answer, self.card)
        line = audit_log.SubmittedLine(_request_fields(request) | fields)
        frame = MeasuredFrame(result, render(answer), fields, drift_features(result))
        if failure := self._record_frame(frame, line.error(), request):
            raise failure.error
        return frame.rendered

    def segment_cine(
        self,
        cine: Cine,
        request: RequestState,
        render: Callable[[FrameResult], T],
        smoother: TemporalSmoother | None = None,
    ) -> Iterator[list[T | FrameFailure]]:
        """Yield `render` of the results of all frames, in order, in lists, as soon as they are ready.

        Raises FrameError (504) once `request` is abandoned.

        render: called in the threads that segment. smoother: see Segmenter.segment_cine.
        """

        def finish(result: FrameResult) -> MeasuredFrame[T]:
            answer = result.abstain_below(request.settings.min_confidence)
            return MeasuredFrame(
                result, render(answer), audit_log.frame_fields(answer, self.card), drift_features(result)
            )

        for outcomes in self.segmenter.segment_cine(cine, request.memory, finish, smoother, request.settings.outlines):
            if request.abandoned:
                raise too_slow_error()
            yield self._record(outcomes, request)

    def _record(
        self, outcomes: "list[MeasuredFrame[T] | FrameFailure]", request: RequestState
    ) -> list[T | FrameFailure]:
        """Write the audit lines, then the metrics. A frame without its audit line becomes a FrameFailure (503)."""
        frames = [outcome for outcome in outcomes if isinstance(outcome, MeasuredFrame)]
        fields = _request_fields(request)
        errors = iter(audit_log.write_all([{**fields, **frame.audit_fields} for frame in frames]))
        recorded: list[T | FrameFailure] = []
        for outcome in outcomes:
            if isinstance(outcome, FrameFailure):
                record_failure(outcome.error, request, outcome.index)
                recorded.append(outcome)
            else:
                failure = self._record_frame(outcome, next(errors), request)
                recorded.append(failure or outcome.rendered)
        return recorded

    def _record_frame(
        self, frame: "MeasuredFrame[T]", error: OSError | None, request: RequestState
    ) -> FrameFailure | None:
        """Update metrics, drift and spool. Return a failure if the audit line has an error: then no mask is sent."""
        if error:
            log.error("the audit log cannot be written, so no mask is returned: %s", error)
            message = "The service cannot write its audit log and returns no masks now."
            return FrameFailure(frame.result.frame.index, FrameError(ErrorCode.NO_AUDIT, message))
        request.audited = True
        _observe(frame.result, frame.audit_fields["present"])
        self.drift.update(frame.drift_features)
        if self.review_spool:
            self.review_spool.keep(frame.result)
        return None


def _request_fields(request: RequestState) -> dict[str, Any]:
    """Return the audit fields that all frames of a request have."""
    return audit_log.request_fields(request) | {"status": 200, **request.settings._asdict()}


@dataclass(frozen=True)
class MeasuredFrame(Generic[T]):
    """A segmented frame, what the caller made of the answer, and what is recorded of it.

    result: with its mask, also if the service abstains: a person reviews it in the spool.
    """

    result: FrameResult
    rendered: T
    audit_fields: dict[str, Any]
    drift_features: DriftFeatures


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


def _observe(result: FrameResult, present: bool | None) -> None:
    """Update the Prometheus metrics of frames. present: as it was answered."""
    frame, segmentation = result.frame, result.segmentation
    STEP_DURATION_SECONDS.labels("decode").observe(result.decode_milliseconds / 1000)
    STEP_DURATION_SECONDS.labels("network").observe(segmentation.milliseconds / 1000)
    FRAMES_TOTAL.labels(json.dumps(present)).inc()
    PRESENCE.observe(segmentation.presence)
    if segmentation.confidence is not None:
        CONFIDENCE.observe(segmentation.confidence)
    FRAME_PIXELS.observe(frame.height * frame.width)
