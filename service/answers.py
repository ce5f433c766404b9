"""What is answered of a segmentation: a mask as PNG, run-lengths, contours, the JSON of /segment."""

from typing import Any

import cv2
import numpy as np

from service.card import Card
from service.frame import Frame
from service.segmenter import Segmentation

PHANTOM_WARNING = "the model was trained on simulated frames: its masks of real ones mean nothing"


def warnings(card: Card) -> list[str]:
    """What every answer of this model has to say against itself."""
    return [PHANTOM_WARNING] if card.trained_on.source == "phantom" else []


def png(mask: np.ndarray) -> bytes:
    """A mask, uint8 (height, width), as an 8-bit grey PNG."""
    # Masks are flat: the quickest deflate keeps them at a few kilobytes.
    written, data = cv2.imencode(".png", mask, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not written:
        raise ValueError(f"OpenCV cannot encode a mask of {mask.shape}")
    return data.tobytes()


def run_lengths(mask: np.ndarray) -> str:
    """Kaggle's encoding: pairs of 1-based start and length, pixels counted down the columns, left to right.

    mask: uint8 (height, width), 0 or 255. An empty mask gives an empty string.
    """
    pixels = np.concatenate([[False], mask.T.ravel() > 0, [False]])
    edges = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1  # starts and ends in turn, 1-based
    edges[1::2] -= edges[::2]
    return " ".join(map(str, edges))


def contours(mask: np.ndarray) -> list[list[list[int]]]:
    """Closed polygons of [x, y] in pixels, through the centres of the outermost pixels; holes follow their outline.

    mask: uint8 (height, width), 0 or 255. Fill by the even-odd rule to have the holes open.
    """
    found, hierarchy = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if hierarchy is None:
        return []
    outlines = [i for i in range(len(found)) if hierarchy[0][i][3] < 0]
    holes = {outline: [i for i in range(len(found)) if hierarchy[0][i][3] == outline] for outline in outlines}
    order = [i for outline in outlines for i in (outline, *holes[outline])]
    return [found[i][:, 0, :].tolist() for i in order]


def segment(frame: Frame, found: Segmentation, card: Card, milliseconds: dict[str, float]) -> dict[str, Any]:
    """The JSON of /segment. milliseconds: what each step took so far."""
    box = list(cv2.boundingRect(found.mask)) if found.present else None  # [x, y, width, height]
    return {
        "frame": {"height": frame.height, "width": frame.width, "index": 0},
        "nerve": {
            "present": found.present,
            "presence": round(found.presence, 4),
            "area_px": int(np.count_nonzero(found.mask)),
            "area_mm2": None,
            "box": box,
            "contours": contours(found.mask),
            "rle": run_lengths(found.mask),
        },
        "confidence": {"mask": None if found.confidence is None else round(found.confidence, 4)},
        "model": {
            "name": card.name,
            "version": card.version,
            "run_id": card.run_id,
            "data": card.data,
            "commit": card.commit,
        },
        "milliseconds": {step: round(value, 2) for step, value in milliseconds.items()},
        "warnings": warnings(card),
    }


def headers(found: Segmentation, card: Card) -> dict[str, str]:
    """What a picture cannot say, as headers of its answer."""
    told = {
        "x-model": card.name,
        "x-model-version": card.version,
        "x-model-run": card.run_id,
        "x-nerve-present": str(found.present).lower(),
        "x-nerve-presence": f"{found.presence:.4f}",
    }
    if found.confidence is not None:
        told["x-mask-confidence"] = f"{found.confidence:.4f}"
    if said := warnings(card):
        told["x-warnings"] = "; ".join(said)
    return told
