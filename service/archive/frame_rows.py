"""The rows of the archive's table: one for each frame, and one for each file that cannot be read."""

from typing import Any

import pyarrow as pa

from service.api.response_bodies import collect_warnings, measure_nerve
from service.inference.segmentation_result import FrameResult
from service.model.card import Card

UNREADABLE = "unreadable"  # the error code of a file that cannot be opened or fetched
CRASHED = "crashed"  # the error code of a file that ended the process that segments it, MAX_CRASHES times

# No column holds a name, a DICOM identifier or, unless asked for, a path. "month" is the most exact date.
SCHEMA = pa.schema(
    [
        pa.field("digest", pa.string(), metadata={"description": "SHA-256 of the file; null: it cannot be read"}),
        pa.field("frame", pa.int32(), metadata={"description": "number of the frame, from 0; null: a whole file"}),
        pa.field("month", pa.string(), metadata={"description": "YYYY-MM of the DICOM study, else of the file"}),
        pa.field("height", pa.int32()),
        pa.field("width", pa.int32()),
        pa.field("present", pa.bool_(), metadata={"description": "whether the mask shows a nerve"}),
        pa.field("presence", pa.float32(), metadata={"description": "probability of a nerve, 0..1"}),
        pa.field("confidence", pa.float32(), metadata={"description": "expected Dice of the mask, 0..1"}),
        pa.field("area_px", pa.int64()),
        pa.field("area_mm2", pa.float64()),
        pa.field("box", pa.list_(pa.int32()), metadata={"description": "x, y, width, height in pixels"}),
        pa.field(
            "out_of_distribution",
            pa.float32(),
            metadata={"description": "distance from the training frames in standard deviations, see the card's limit"},
        ),
        pa.field("intensity_mean", pa.float32(), metadata={"description": "of the grey values, 0..255"}),
        pa.field("intensity_deviation", pa.float32()),
        pa.field("warnings", pa.list_(pa.string())),
        pa.field("error", pa.string(), metadata={"description": "error code; null: the frame has a mask"}),
        pa.field("try_again", pa.bool_(), metadata={"description": "the next run tries this file again"}),
        pa.field("model_version", pa.string()),
        pa.field("model_run", pa.string()),
        pa.field("milliseconds", pa.float32(), metadata={"description": "decoding and network"}),
        pa.field("outputs", pa.list_(pa.string()), metadata={"description": "kinds of output files"}),
        pa.field("path", pa.string(), metadata={"description": "only with --keep-paths"}),
    ]
)


def frame_row(result: FrameResult, card: Card) -> dict[str, Any]:
    """Return the row of a segmented frame, without what all rows of its file share."""
    from service.monitoring.drift import intensity_mean_std

    segmentation, measures = result.segmentation, measure_nerve(result)
    mean, deviation = intensity_mean_std(result.frame)
    return {
        "frame": result.frame.index,
        "height": result.frame.height,
        "width": result.frame.width,
        **{name: measures[name] for name in ("present", "presence", "area_px", "area_mm2", "box")},
        "confidence": None if segmentation.confidence is None else round(segmentation.confidence, 4),
        "out_of_distribution": segmentation.out_of_distribution_distance,
        "intensity_mean": round(mean, 2),
        "intensity_deviation": round(deviation, 2),
        "warnings": collect_warnings(card, *result.notes),
        "try_again": False,
        "milliseconds": round(result.decode_milliseconds + segmentation.milliseconds, 2),
    }


def error_row(code: str, index: int | None, try_again: bool) -> dict[str, Any]:
    """Return the row of a file, or of frame `index` of it, that has no mask.

    code: of ErrorCode, UNREADABLE or CRASHED. try_again: whether the next run tries the file again.
    """
    return {"frame": index, "error": str(code), "try_again": try_again}
