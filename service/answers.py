"""What is answered of a frame that was looked at: the JSON of /segment, GeoJSON, the headers of a picture."""

import json
import time
from typing import Any

import cv2

from service import pictures, shapes
from service.card import Card
from service.errors import FrameError
from service.segmenter import Seen, Unseen

PHANTOM_WARNING = "the model was trained on simulated frames: its masks of real ones mean nothing"
PICTURES = ("mask", "overlay", "frame")  # what may be asked for inside the JSON


def warnings(card: Card, *notes: str) -> list[str]:
    """What an answer has to say against itself: of its model, and of its frame."""
    return [PHANTOM_WARNING, *notes] if card.trained_on.source == "phantom" else list(notes)


def segment(seen: Seen, card: Card, picture: str | None = None) -> dict[str, Any]:
    """The JSON of /segment. picture: one of PICTURES, to come with it as a data URL."""
    start = time.perf_counter()
    frame, found = seen.frame, seen.found
    answer: dict[str, Any] = {
        "frame": {
            "height": frame.height,
            "width": frame.width,
            "index": frame.index,
            "area": list(frame.area) if frame.area else None,
            "spacing_mm": list(frame.spacing) if frame.spacing else None,
            "rate_hz": frame.rate,
        },
        "nerve": _nerve(seen) | {"contours": shapes.contours(found.mask), "rle": shapes.run_lengths(found.mask)},
        "confidence": _confidence(seen),
        "model": _model(card),
        "milliseconds": {"decode": round(seen.decode_milliseconds, 2), "network": round(found.milliseconds, 2)},
        "warnings": warnings(card, *seen.notes),
    }
    if picture:
        answer["picture"] = _picture(seen, picture)
    answer["milliseconds"]["answer"] = round((time.perf_counter() - start) * 1000, 2)
    return answer


def geojson(seen: Seen, card: Card) -> dict[str, Any]:
    """The mask as a GeoJSON Feature (RFC 7946) in pixel coordinates; without a nerve its geometry is null."""
    return {
        "type": "Feature",
        "geometry": shapes.polygons(seen.found.mask),
        "properties": {
            "classification": {"name": "nerve"},
            "index": seen.frame.index,
            **_nerve(seen),
            "confidence": _confidence(seen),
            "model": _model(card),
            "warnings": warnings(card, *seen.notes),
        },
    }


def error(fault: FrameError) -> dict[str, Any]:
    """The one shape of an error."""
    return {"error": {"code": fault.code, "message": fault.message}}


def outcome(of: Seen | Unseen, card: Card, picture: str | None = None, geographic: bool = False) -> dict[str, Any]:
    """One frame of a cine: the JSON of /segment or its GeoJSON, or what kept it from being looked at."""
    if isinstance(of, Unseen):
        return {"frame": {"index": of.index}, **error(of.fault)}
    return geojson(of, card) if geographic else segment(of, card, picture)


def line(told: dict[str, Any]) -> str:
    """A line of a cine's answer."""
    return json.dumps(told, separators=(",", ":")) + "\n"


def headers(seen: Seen, card: Card) -> dict[str, str]:
    """What a picture cannot say, as headers of its answer."""
    told = model_headers(card, seen.notes) | {
        "x-nerve-present": str(seen.found.present).lower(),
        "x-nerve-presence": f"{seen.found.presence:.4f}",
    }
    if seen.found.confidence is not None:
        told["x-mask-confidence"] = f"{seen.found.confidence:.4f}"
    return told


def model_headers(card: Card, notes: tuple[str, ...]) -> dict[str, str]:
    """The headers that every answer but JSON carries."""
    told = {"x-model": card.name, "x-model-version": card.version, "x-model-run": card.run_id}
    if said := warnings(card, *notes):
        told["x-warnings"] = "; ".join(said)
    return told


def _nerve(seen: Seen) -> dict[str, Any]:
    """Whether there is one, and how large. box: [x, y, width, height] in pixels."""
    frame, found = seen.frame, seen.found
    area = cv2.countNonZero(found.mask)
    box = list(cv2.boundingRect(found.mask)) if found.present else None
    across, down = frame.spacing or (None, None)
    return {
        "present": found.present,
        "presence": round(found.presence, 4),
        "area_px": area,
        "area_mm2": round(area * across * down, 3) if across and down else None,
        "box": box,
        "size_mm": [round(box[2] * across, 3), round(box[3] * down, 3)] if box and across and down else None,
    }


def _confidence(seen: Seen) -> dict[str, float | None]:
    return {"mask": None if seen.found.confidence is None else round(seen.found.confidence, 4)}


def _model(card: Card) -> dict[str, str]:
    return {key: getattr(card, key) for key in ("name", "version", "run_id", "data", "commit")}


def _picture(seen: Seen, kind: str) -> str:
    if kind == "frame":
        return pictures.data_url(pictures.jpeg(seen.frame), "image/jpeg")
    mask = seen.found.mask
    shown = mask if kind == "mask" else pictures.overlay(seen.frame, mask)
    return pictures.data_url(pictures.png(shown), "image/png")
