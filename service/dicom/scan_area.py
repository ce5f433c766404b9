"""Where on a frame the scan lies, and how large a pixel is: DICOM's US Region Calibration (PS3.3 C.8.5.5).

And how fast its cine runs (PS3.3 C.7.6.5).
"""

import math
import statistics
from collections.abc import Callable
from typing import Any

from pydicom import Dataset

from service.frame import LEAST_SIDE_PX, Area

TWO_DIMENSIONAL = 1  # Region Spatial Format
TISSUE = 1  # Region Data Type
CENTIMETRES = 3  # Physical Units X and Y Direction
MM_PER_CM = 10.0
LEAST_RATE, MOST_RATE = 0.1, 1000.0  # frames a second that are believed

Spacing = tuple[float, float]  # millimetres from column to column, and from row to row


def scan_area(header: Dataset) -> tuple[Area | None, Spacing | None, tuple[str, ...]]:
    """The largest two-dimensional region that shows tissue, its spacing, and what has to be said about the choice.

    Without such a region the area is None, which means the whole frame.
    """
    try:
        return _of_regions(header)
    except Exception:  # values of any type may stand in a header
        return None, None, ("the ultrasound regions in the header are malformed: the whole frame was segmented",)


def _of_regions(header: Dataset) -> tuple[Area | None, Spacing | None, tuple[str, ...]]:
    found = [
        (_area(region, header), _spacing(region))
        for region in header.get("SequenceOfUltrasoundRegions") or []
        if (region.RegionSpatialFormat, region.RegionDataType) == (TWO_DIMENSIONAL, TISSUE)
    ]
    usable = [(area, spacing) for area, spacing in found if min(area.width, area.height) >= LEAST_SIDE_PX]
    if not usable:
        missing = ("the ultrasound regions lie outside the frame: the whole frame was segmented",) if found else ()
        return None, _pixel_spacing(header), missing
    area, spacing = max(usable, key=lambda region: region[0].width * region[0].height)
    notes = (f"the frame has {len(usable)} scan areas: the largest was segmented",) if len(usable) > 1 else ()
    return area, spacing, notes


def _area(region: Dataset, header: Dataset) -> Area:
    """The part of the region that lies on the frame; its corners are pixels that belong to it."""
    left, right = max(0, region.RegionLocationMinX0), min(header.Columns - 1, region.RegionLocationMaxX1)
    top, bottom = max(0, region.RegionLocationMinY0), min(header.Rows - 1, region.RegionLocationMaxY1)
    return Area(int(left), int(top), int(right - left + 1), int(bottom - top + 1))


def _spacing(region: Dataset) -> Spacing | None:
    units = (region.get("PhysicalUnitsXDirection"), region.get("PhysicalUnitsYDirection"))
    if units != (CENTIMETRES, CENTIMETRES):
        return None
    # A delta is negative where the coordinate falls from left to right, or from top to bottom.
    return _usable(abs(region.PhysicalDeltaX) * MM_PER_CM, abs(region.PhysicalDeltaY) * MM_PER_CM)


def _pixel_spacing(header: Dataset) -> Spacing | None:
    """Pixel Spacing, which holds the rows' distance first (PS3.3 10.7.1.3)."""
    if not header.get("PixelSpacing"):
        return None
    rows, columns = header.PixelSpacing
    return _usable(float(columns), float(rows))


def _usable(columns: float, rows: float) -> Spacing | None:
    return (columns, rows) if all(math.isfinite(side) and side > 0 for side in (columns, rows)) else None


def cine_rate(header: Dataset) -> float | None:
    """Frames a second at which to show the cine; None where the header does not tell, or tells nonsense."""
    ways: dict[str, Callable[[Any], float]] = {
        "RecommendedDisplayFrameRate": float,
        "CineRate": float,
        "FrameTime": lambda milliseconds: 1000 / float(milliseconds),
        "FrameTimeVector": lambda increments: 1000 / statistics.fmean(increments[1:]),  # the first frame's is 0
    }
    for keyword, to_rate in ways.items():
        try:
            rate = round(to_rate(header[keyword].value), 2)
        except Exception:  # values of any type may stand in a header
            continue
        if LEAST_RATE <= rate <= MOST_RATE:
            return rate
    return None
