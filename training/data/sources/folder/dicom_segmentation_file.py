"""Read a DICOM Segmentation (PS3.3 C.8.20): which frame of which image each of its frames marks, and the masks."""

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
from pydicom import Dataset
from pydicom.pixels import pixel_array

from training.data.source_errors import SourceError
from training.data.sources.folder.classes import ClassMap
from training.data.sources.folder.dicom_files import read_dicom
from training.data.sources.folder_or_zip import SourceFiles

TYPES = ("BINARY", "FRACTIONAL", "LABELMAP")
BACKGROUND_VALUE = 0  # of a LABELMAP
EXPORT_AGAIN = "Export it again, or remove it."


class SegmentFrame(NamedTuple):
    """A frame of a segmentation.

    position: in the segmentation, from 0.
    segments: the numbers of the segments that it marks: one, or in a LABELMAP all.
    instance_uid: SOPInstanceUID of the image. number: of the image's frame, from 1; None: not said.
    time: Temporal Position Index, from 1; None: not said.
    """

    position: int
    segments: tuple[int, ...]
    instance_uid: str
    number: int | None
    time: int | None


class Segmentation(NamedTuple):
    """The header of a segmentation. class_names: of each segment, in lower case, by its number."""

    file: str
    class_names: dict[int, str]
    frames: list[SegmentFrame]


def read_segmentation(files: SourceFiles, file: str, classes: ClassMap) -> Segmentation:
    """Return the header of a segmentation.

    Raises SourceError for a segmentation that is damaged or of a kind that is not read, and ParameterError for an
    unknown class.
    """
    try:
        header = read_dicom(files, file, stop_before_pixels=True)
        segmentation_type = str(header.get("SegmentationType"))
        if segmentation_type not in TYPES:
            reason = f"has the SegmentationType {segmentation_type}, which is not read"
            raise SourceError(file, reason, f"Export it as {', '.join(TYPES)}.")
        numbers = {int(segment.SegmentNumber): segment for segment in header.SegmentSequence}
        if segmentation_type == "LABELMAP":
            numbers.pop(int(header.get("PixelPaddingValue", -1)), None)
        names = {number: _class_name(segment, classes) for number, segment in numbers.items()}
        frames = [
            _read_references(header, groups, position, names, file)
            for position, groups in enumerate(header.PerFrameFunctionalGroupsSequence)
        ]
        if len(frames) != int(header.NumberOfFrames):
            raise ValueError(f"it declares {header.NumberOfFrames} frames, but describes {len(frames)}")
    except SourceError:
        raise
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise SourceError(file, f"is not a complete DICOM Segmentation ({error})", EXPORT_AGAIN) from error
    for name in names.values():
        classes.label(name, file)
    return Segmentation(file, names, frames)


def _class_name(segment: Dataset, classes: ClassMap) -> str:
    """Return a segment's label, or the name of its Segmented Property Type if `nerve.classes` has only that."""
    types = segment.get("SegmentedPropertyTypeCodeSequence") or []
    names = [segment.get("SegmentLabel"), *(code.get("CodeMeaning") for code in types)]
    names = [str(name or "").strip().lower() for name in names]
    return next((name for name in names if name in classes.labels), names[0])


def _read_references(
    header: Dataset, groups: Dataset, position: int, class_names: dict[int, str], file: str
) -> SegmentFrame:
    """Return which frame of which image a frame of the segmentation marks. groups: its functional groups."""
    place = f"frame {position + 1} of the segmentation"
    segments = tuple(class_names)
    if header.SegmentationType != "LABELMAP":
        number = int(_functional_group(header, groups, "SegmentIdentificationSequence")[0].ReferencedSegmentNumber)
        if number not in class_names:
            raise ValueError(f"{place} has segment {number}, which is not described")
        segments = (number,)
    derivations = _functional_group(header, groups, "DerivationImageSequence")
    sources = [source for derivation in derivations for source in derivation.get("SourceImageSequence") or []]
    if any(source.get("SpatialLocationsPreserved", "YES") != "YES" for source in sources):
        reason = f"marks a picture that is turned or resampled ({place}: Spatial Locations Preserved is not YES)"
        raise SourceError(file, reason, "Export it in the pixels of its image.")
    marked = {(str(source.ReferencedSOPInstanceUID), _frame_numbers(source)) for source in sources}
    marked = marked or {(uid, ()) for uid in _referenced_instances(header)}
    if len(marked) != 1:
        reason = f"does not say which image it marks ({place} refers to {len(marked)} images or frames)"
        raise SourceError(file, reason, "Export it with one source image for each frame (DerivationImageSequence).")
    (instance_uid, numbers), *_ = marked
    if len(numbers) > 1:
        reason = f"has one mask for several frames ({place}: Referenced Frame Number {', '.join(map(str, numbers))})"
        raise SourceError(file, reason, "Export one mask for each frame.")
    content = _functional_group(header, groups, "FrameContentSequence")
    time = content[0].get("TemporalPositionIndex") if content else None
    return SegmentFrame(position, segments, instance_uid, numbers[0] if numbers else None, time)


def _functional_group(header: Dataset, groups: Dataset, keyword: str) -> list[Dataset]:
    """Return a functional group of a frame; of all frames if the frame has none of its own."""
    shared = header.get("SharedFunctionalGroupsSequence") or [Dataset()]
    return groups.get(keyword) or shared[0].get(keyword) or []


def _frame_numbers(source: Dataset) -> tuple[int, ...]:
    numbers = source.get("ReferencedFrameNumber")
    if numbers is None:
        return ()
    return tuple(int(number) for number in (numbers if isinstance(numbers, Sequence) else [numbers]))


def _referenced_instances(header: Dataset) -> set[str]:
    """Return the images that the segmentation as a whole refers to."""
    return {
        str(instance.ReferencedSOPInstanceUID)
        for series in header.get("ReferencedSeriesSequence") or []
        for instance in series.get("ReferencedInstanceSequence") or []
    }


class MaskReader:
    """Reads the masks of segmentations. It keeps the last few files in memory."""

    def __init__(self, files: SourceFiles):
        self._load = lru_cache(maxsize=4)(partial(read_dicom, files))

    def read(self, segmentation: Segmentation, frames: list[SegmentFrame]) -> dict[str, np.ndarray]:
        """Return the mask of each class on one frame of an image: bool (rows, columns). Without a frame it is empty.

        frames: those that mark that frame of the image. FRACTIONAL pixels belong to the mask from one half on.

        Raises SourceError if the pixels cannot be decoded.
        """
        file = segmentation.file
        try:
            dataset = self._load(file)
            empty = np.zeros((dataset.Rows, dataset.Columns), bool)
            masks: dict[str, np.ndarray] = defaultdict(lambda: empty)
            for frame in frames:
                pixels = pixel_array(dataset, index=frame.position)
                for number, mask in self._masks(dataset, pixels, frame, segmentation).items():
                    masks[segmentation.class_names[number]] = masks[segmentation.class_names[number]] | mask
        except SourceError:
            raise
        except Exception as error:  # pydicom's decoders raise many classes
            reason = f"has pixels that cannot be decoded ({type(error).__name__}: {error})"
            raise SourceError(file, reason, "Export it uncompressed, or remove it.") from error
        return {name: masks[name] for name in segmentation.class_names.values()}

    def _masks(
        self, dataset: Dataset, pixels: np.ndarray, frame: SegmentFrame, segmentation: Segmentation
    ) -> dict[int, np.ndarray]:
        """Return the mask of each segment of a frame of the segmentation."""
        if dataset.SegmentationType == "LABELMAP":
            background = {BACKGROUND_VALUE, int(dataset.get("PixelPaddingValue", BACKGROUND_VALUE))}
            if unknown := set(np.unique(pixels).tolist()) - background - segmentation.class_names.keys():
                reason = f"has pixels of segment {min(unknown)}, which is not described"
                raise SourceError(segmentation.file, reason, EXPORT_AGAIN)
            return {number: pixels == number for number in frame.segments}
        if dataset.SegmentationType == "FRACTIONAL":
            return {frame.segments[0]: 2 * pixels.astype(np.int32) >= dataset.MaximumFractionalValue}
        return {frame.segments[0]: pixels > 0}
