"""How large a pixel is, in millimetres: of an ultrasound region, or of the whole picture."""

import math

from pydicom import Dataset

CENTIMETRES = 3  # Physical Units X and Y Direction (PS3.3 C.8.5.5.1.15)
MM_PER_CM = 10.0

SpacingMm = tuple[float, float]  # from column to column, and from row to row


def read_region_spacing(region: Dataset) -> SpacingMm | None:
    """Return the spacing of an ultrasound region; None if its unit is not centimetres.

    Raises exceptions of many classes if a number is missing or makes no sense.
    """
    units = (region.get("PhysicalUnitsXDirection"), region.get("PhysicalUnitsYDirection"))
    if units != (CENTIMETRES, CENTIMETRES):
        return None
    # A delta is negative if the coordinate falls from left to right, or from top to bottom.
    return _check_spacing(abs(region.PhysicalDeltaX) * MM_PER_CM, abs(region.PhysicalDeltaY) * MM_PER_CM)


def read_pixel_spacing(header: Dataset) -> SpacingMm | None:
    """Return the spacing of Pixel Spacing, which holds the distance between rows first (PS3.3 10.7.1.3).

    None if the header does not have it. Raises exceptions of many classes if it makes no sense.
    """
    if not header.get("PixelSpacing"):
        return None
    rows, columns = header.PixelSpacing
    return _check_spacing(float(columns), float(rows))


def _check_spacing(columns: float, rows: float) -> SpacingMm:
    if not all(math.isfinite(side) and side > 0 for side in (columns, rows)):
        raise ValueError("a spacing is not a positive number")
    return columns, rows
