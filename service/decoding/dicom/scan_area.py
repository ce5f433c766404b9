"""Where the scan is on a frame and how large a pixel is (US Region Calibration, PS3.3 C.8.5.5); the frame rate.

The frame rate is in the Cine module (PS3.3 C.7.6.5).
"""

import math
import statistics
from collections.abc import Callable
from typing import Any

from pydicom import Dataset

from service.decoding.frame import MIN_SIDE_PX, Box

TWO_DIMENSIONAL = 1  # Region Spatial Format
TISSUE = 1  # Region Data Type
CENTIMETRES = 3  # Physical Units X and Y Direction
MM_PER_CM = 10.0
MIN_FRAME_RATE_HZ, MAX_FRAME_RATE_HZ = 0.1, 1000.0  # rates outside are taken for errors of the header

SpacingMm = tuple[float, float]  # from column to column, and from row to row

# Elements that hold the rate, the most reliable first, each with the conversion to frames per second.
FRAME_RATE_ELEMENTS: dict[str, Callable[[Any], float]] = {
    "RecommendedDisplayFrameRate": float,
    "CineRate": float,
    "FrameTime": lambda milliseconds: 1000 / float(milliseconds),
    "FrameTimeVector": lambda increments: 1000 / statistics.fmean(increments[1:]),  # the first increment is 0
}


def find_scan_area(header: Dataset) -> tuple[Box | None, SpacingMm | None, tuple[str, ...]]:
    """Return the largest two-dimensional tissue region, its pixel spacing in millimetres, and notes on the choice.

    Without such a region, the box is None: the whole frame is used.
    """
    try:
        return _choose_region(header)
    except Exception:  # a header may hold values of any type
        return None, None, ("the ultrasound regions in the header are malformed: the whole frame was segmented",)


def _choose_region(header: Dataset) -> tuple[Box | None, SpacingMm | None, tuple[str, ...]]:
    regions = [
        (_clip_region(region, header), _read_spacing(region))
        for region in header.get("SequenceOfUltrasoundRegions") or []
        if (region.RegionSpatialFormat, region.RegionDataType) == (TWO_DIMENSIONAL, TISSUE)
    ]
    usable = [(box, spacing) for box, spacing in regions if min(box.width, box.height) >= MIN_SIDE_PX]
    if not usable:
        notes = ("the ultrasound regions are outside the frame: the whole frame was segmented",) if regions else ()
        return None, _read_pixel_spacing(header), notes
    box, spacing = max(usable, key=lambda region: region[0].width * region[0].height)
    notes = (f"the frame has {len(usable)} scan areas: the largest was segmented",) if len(usable) > 1 else ()
    return box, spacing, notes


def _clip_region(region: Dataset, header: Dataset) -> Box:
    """Return the part of the region on the frame. The region's corners are pixels of the region."""
    left, right = max(0, region.RegionLocationMinX0), min(header.Columns - 1, region.RegionLocationMaxX1)
    top, bottom = max(0, region.RegionLocationMinY0), min(header.Rows - 1, region.RegionLocationMaxY1)
    return Box(int(left), int(top), int(right - left + 1), int(bottom - top + 1))


def _read_spacing(region: Dataset) -> SpacingMm | None:
    units = (region.get("PhysicalUnitsXDirection"), region.get("PhysicalUnitsYDirection"))
    if units != (CENTIMETRES, CENTIMETRES):
        return None
    # A delta is negative if the coordinate falls from left to right, or from top to bottom.
    return _check_spacing(abs(region.PhysicalDeltaX) * MM_PER_CM, abs(region.PhysicalDeltaY) * MM_PER_CM)


def _read_pixel_spacing(header: Dataset) -> SpacingMm | None:
    """Return the spacing of Pixel Spacing, which holds the distance between rows first (PS3.3 10.7.1.3)."""
    if not header.get("PixelSpacing"):
        return None
    rows, columns = header.PixelSpacing
    return _check_spacing(float(columns), float(rows))


def _check_spacing(columns: float, rows: float) -> SpacingMm | None:
    return (columns, rows) if all(math.isfinite(side) and side > 0 for side in (columns, rows)) else None


def read_frame_rate(header: Dataset) -> float | None:
    """Return the frames per second of the cine, 0.1 to 1000; None if the header has no such number."""
    for keyword, to_rate in FRAME_RATE_ELEMENTS.items():
        try:
            rate = round(to_rate(header[keyword].value), 2)
        except Exception:  # a header may hold values of any type
            continue
        if MIN_FRAME_RATE_HZ <= rate <= MAX_FRAME_RATE_HZ:
            return rate
    return None
