"""Where the scan is on a frame: the regions of the module US Region Calibration (PS3.3 C.8.5.5)."""

from typing import NamedTuple

from pydicom import Dataset

from service.decoding.cropping import Box
from service.decoding.dicom.pixel_spacing import SpacingMm, read_pixel_spacing, read_region_spacing
from service.decoding.frame import MIN_SIDE_PX

TWO_DIMENSIONAL = 1  # Region Spatial Format
TISSUE = 1  # Region Data Type


class ScanArea(NamedTuple):
    """box: the part of the frame that shows tissue; None: the whole frame. notes: on the choice and on errors."""

    box: Box | None
    spacing_mm: SpacingMm | None
    notes: tuple[str, ...]


def find_scan_area(header: Dataset) -> ScanArea:
    """Return the largest two-dimensional tissue region and its pixel spacing.

    Without such a region, the whole frame is used with the spacing of the picture. Malformed regions are passed over,
    with a note.
    """
    regions, notes = _read_tissue_regions(header)
    usable = [(box, spacing) for box, spacing in regions if min(box.width, box.height) >= MIN_SIDE_PX]
    if usable:
        if len(usable) > 1:
            notes += (f"the frame has {len(usable)} scan areas: the largest was segmented",)
        box, spacing = max(usable, key=lambda region: region[0].width * region[0].height)
        return ScanArea(box, spacing, notes)
    if regions:
        notes += ("the ultrasound regions are outside the frame: the whole frame was segmented",)
    try:
        return ScanArea(None, read_pixel_spacing(header), notes)
    except Exception:  # a header may hold values of any type
        return ScanArea(None, None, (*notes, "Pixel Spacing (0028,0030) is malformed: lengths are in pixels only"))


def _read_tissue_regions(header: Dataset) -> tuple[list[tuple[Box, SpacingMm | None]], tuple[str, ...]]:
    """Return the part of each tissue region on the frame, with its spacing, and a note if some are malformed."""
    regions: list[tuple[Box, SpacingMm | None]] = []
    notes: tuple[str, ...] = ()
    malformed = 0
    try:
        items = list(header.get("SequenceOfUltrasoundRegions") or [])
    except Exception:  # a header may hold values of any type
        items, malformed = [], 1
    for item in items:
        try:
            if (item.RegionSpatialFormat, item.RegionDataType) == (TWO_DIMENSIONAL, TISSUE):
                spacing, spacing_notes = _read_spacing(item)
                regions.append((_clip_region(item, header), spacing))
                notes += spacing_notes
        except Exception:
            malformed += 1
    if malformed:
        used = "the others were used" if regions else "the whole frame was segmented"
        notes += (f"Sequence of Ultrasound Regions (0018,6011) has malformed items: {used}",)
    return regions, tuple(dict.fromkeys(notes))


def _read_spacing(region: Dataset) -> tuple[SpacingMm | None, tuple[str, ...]]:
    """Return the spacing of a region, and a note if it is malformed."""
    try:
        return read_region_spacing(region), ()
    except Exception:  # a header may hold values of any type
        return None, ("Physical Delta X or Y (0018,602C or 602E) of a region is malformed: lengths are in pixels only",)


def _clip_region(region: Dataset, header: Dataset) -> Box:
    """Return the part of the region on the frame. The region's corners are pixels of the region."""
    left, right = max(0, region.RegionLocationMinX0), min(header.Columns - 1, region.RegionLocationMaxX1)
    top, bottom = max(0, region.RegionLocationMinY0), min(header.Rows - 1, region.RegionLocationMaxY1)
    return Box(int(left), int(top), int(right - left + 1), int(bottom - top + 1))
