"""Build the responses for a frame: the JSON of /segment, GeoJSON, errors, and the headers of pictures."""

import json
import time
from collections.abc import Mapping
from typing import Any, cast

import cv2
import numpy as np

from service.api import response_schemas as models
from service.errors import FrameError
from service.inference.segmentation_result import FrameFailure, FrameResult, Outlines
from service.model.card import Card
from service.rendering import contours, image_encoding, run_lengths
from service.rendering.overlay import draw_overlay

PHANTOM_WARNING = "the model was trained on simulated frames: its masks of real frames mean nothing"
PICTURE_KINDS = ("mask", "overlay", "frame")  # values of the parameter `picture`
OUTLINES_BYTES = 13  # of a pixel: with the frame and its mask, four more than segmentation takes (SEGMENTED_BYTES)
RENDERED_PICTURE_BYTES = 24  # of a pixel: an overlay that does not compress, as base64, with the copies of the JSON


def collect_warnings(card: Card, *notes: str) -> list[str]:
    """Return the warnings of a response: first that of the model, then the notes on the frame."""
    return [PHANTOM_WARNING, *notes] if card.trained_on.source == "phantom" else list(notes)


def build_segmentation(result: FrameResult, card: Card, picture_kind: str | None = None) -> models.Segmentation:
    """Return the JSON of /segment.

    picture_kind: one of PICTURE_KINDS, to add that picture as a data URL; None for no picture.
    """
    start = time.perf_counter()
    frame = result.frame
    segmentation = result.segmentation
    response: models.Segmentation = {
        "frame": {
            "height": frame.height,
            "width": frame.width,
            "index": frame.index,
            "area": list(frame.scan_area) if frame.scan_area else None,
            "spacing_mm": list(frame.spacing_mm) if frame.spacing_mm else None,
            "rate_hz": frame.frame_rate_hz,
        },
        "nerve": {
            **measure_nerve(result),
            "contours": contours.find_contours(segmentation.mask),
            "rle": run_lengths.encode_run_lengths(segmentation.mask),
        },
        "confidence": _confidence(result),
        "model": _model(card),
        "milliseconds": {
            "decode": round(result.decode_milliseconds, 2),
            "network": round(segmentation.milliseconds, 2),
            "answer": 0.0,
        },
        "warnings": collect_warnings(card, *result.notes),
    }
    if segmentation.outlines:
        response["nerve"]["outlines"] = _describe_outlines(segmentation.outlines, card)
    if picture_kind:
        response["picture"] = _draw_picture(result, picture_kind)
    response["milliseconds"]["answer"] = round((time.perf_counter() - start) * 1000, 2)
    return response


def build_feature(result: FrameResult, card: Card) -> models.Feature:
    """Return the mask as a GeoJSON Feature (RFC 7946) in pixels. The geometry of an empty mask is null."""
    return {
        "type": "Feature",
        "geometry": cast("models.Geometry | None", contours.to_geojson_geometry(result.segmentation.mask)),
        "properties": {
            "classification": {"name": "nerve"},
            "index": result.frame.index,
            **measure_nerve(result),
            "confidence": _confidence(result),
            "model": _model(card),
            "warnings": collect_warnings(card, *result.notes),
        },
    }


def build_error(error: FrameError) -> models.Error:
    """Return the body of an error."""
    return {"error": {"code": error.code, "message": error.message}}


def build_outcome(
    outcome: FrameResult | FrameFailure, card: Card, picture_kind: str | None = None, as_geojson: bool = False
) -> models.Segmentation | models.Feature | models.FailedFrame:
    """Return the response for one frame of a cine: the JSON of /segment, its GeoJSON, or the error of the frame.

    picture_kind: one of PICTURE_KINDS, to add that picture to the JSON; None for no picture.
    """
    if isinstance(outcome, FrameFailure):
        return {"frame": {"index": outcome.index}, **build_error(outcome.error)}
    return build_feature(outcome, card) if as_geojson else build_segmentation(outcome, card, picture_kind)


def encode_line(response: Mapping[str, Any]) -> str:
    """Return the response for one frame as a line of JSON Lines."""
    return json.dumps(response, separators=(",", ":")) + "\n"


def picture_headers(result: FrameResult, card: Card) -> dict[str, str]:
    """Return the headers of a PNG: the model, the warnings, presence and confidence."""
    headers = model_headers(card, result.notes) | {
        "x-nerve-present": json.dumps(result.segmentation.present),
        "x-nerve-presence": f"{result.segmentation.presence:.4f}",
    }
    if result.segmentation.confidence is not None:
        headers["x-mask-confidence"] = f"{result.segmentation.confidence:.4f}"
    return headers


def model_headers(card: Card, notes: tuple[str, ...]) -> dict[str, str]:
    """Return the headers of a response that is not JSON: the model and the warnings."""
    headers = {"x-model": card.name, "x-model-version": card.version, "x-model-run": card.run_id}
    if warnings := collect_warnings(card, *notes):
        headers["x-warnings"] = "; ".join(warnings)
    return headers


def measure_nerve(result: FrameResult) -> models.NerveMeasures:
    """Return the presence of the nerve, and the area and box of its mask."""
    frame = result.frame
    segmentation = result.segmentation
    area_px = cv2.countNonZero(segmentation.mask)
    box = list(cv2.boundingRect(segmentation.mask)) if segmentation.present else None
    column_mm, row_mm = frame.spacing_mm or (None, None)
    return {
        "present": segmentation.present,
        "presence": round(segmentation.presence, 4),
        "area_px": area_px,
        "area_mm2": round(area_px * column_mm * row_mm, 3) if column_mm and row_mm else None,
        "box": box,
        "size_mm": [round(box[2] * column_mm, 3), round(box[3] * row_mm, 3)] if box and column_mm and row_mm else None,
    }


def _describe_outlines(outlines: Outlines, card: Card) -> models.Outlines:
    margins = card.postprocessing.outlines
    assert margins, "a model without margins gives no outlines"
    return {
        "outer": contours.find_contours(outlines.outer),
        "inner": contours.find_contours(outlines.inner),
        "coverage": margins.coverage,
        "level": margins.level,
        "guaranteed": outlines.no_guarantee is None,
    }


def _confidence(result: FrameResult) -> models.ConfidenceValues:
    confidence = result.segmentation.confidence
    return {"mask": None if confidence is None else round(confidence, 4)}


def _model(card: Card) -> models.Model:
    return {
        "name": card.name,
        "version": card.version,
        "run_id": card.run_id,
        "data": card.data,
        "commit": card.commit,
    }


def draw_result(result: FrameResult) -> np.ndarray:
    """Return the frame with its mask, and with the outlines if the client asks: uint8 (height, width, 3), BGR."""
    segmentation = result.segmentation
    outlines = segmentation.outlines
    return draw_overlay(result.frame, segmentation.mask, (outlines.outer, outlines.inner) if outlines else ())


def _draw_picture(result: FrameResult, kind: str) -> str:
    """Return a picture as a data URL.

    kind: one of PICTURE_KINDS.
    """
    if kind == "frame":
        return image_encoding.to_data_url(image_encoding.encode_jpeg(result.frame), "image/jpeg")
    picture = result.segmentation.mask if kind == "mask" else draw_result(result)
    return image_encoding.to_data_url(image_encoding.encode_png(picture), "image/png")
