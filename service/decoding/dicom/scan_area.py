"""Where the scan is on a frame: the regions of the module US Region Calibration (PS3.3 C.8.5.5)."""

from pydicom import Dataset

from service.decoding.cropping import Box
from service.decoding.dicom.pixel_spacing import SpacingMm, read_pixel_spacing, read_region_spacing
from service.decoding.frame import MIN_SIDE_PX

TWO_DIMENSIONAL = 1  # Region Spatial Format
TISSUE = 1  # Region Data Type


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
        (_clip_region(region, header), read_region_spacing(region))
        for region in header.get("SequenceOfUltrasoundRegions") or []
        if (region.RegionSpatialFormat, region.RegionDataType) == (TWO_DIMENSIONAL, TISSUE)
    ]
    usable = [(box, spacing) for box, spacing in regions if min(box.width, box.height) >= MIN_SIDE_PX]
    if not usable:
        notes = ("the ultrasound regions are outside the frame: the whole frame was segmented",) if regions else ()
        return None, read_pixel_spacing(header), notes
    box, spacing = max(usable, key=lambda region: region[0].width * region[0].height)
    notes = (f"the frame has {len(usable)} scan areas: the largest was segmented",) if len(usable) > 1 else ()
    return box, spacing, notes


def _clip_region(region: Dataset, header: Dataset) -> Box:
    """Return the part of the region on the frame. The region's corners are pixels of the region."""
    left, right = max(0, region.RegionLocationMinX0), min(header.Columns - 1, region.RegionLocationMaxX1)
    top, bottom = max(0, region.RegionLocationMinY0), min(header.Rows - 1, region.RegionLocationMaxY1)
    return Box(int(left), int(top), int(right - left + 1), int(bottom - top + 1))
