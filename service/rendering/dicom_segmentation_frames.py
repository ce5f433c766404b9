"""Extend a DICOM Segmentation of one frame to all frames of a cine, and pack its masks."""

import copy
import itertools
from collections.abc import Iterable

import numpy as np
from highdicom.seg import Segmentation
from pydicom import Dataset

FRAME_CONTENT_SEQUENCE, TEMPORAL_POSITION_INDEX = 0x00209111, 0x00209128


def add_frames(segmentation: Segmentation, frame_count: int) -> None:
    """Give the segmentation a frame for each segment of each source frame.

    Before, it has a frame for each segment, whose functional groups are copied.

    Without a Frame of Reference highdicom allows one frame only, and an ultrasound cine has none: a hand-held probe has
    no position in the patient's coordinates. PS3.3 A.51.3 and A.51.5 require neither a Frame of Reference nor plane
    positions nor pixel measures if the Derivation Image macro names the source frame of each frame, and says that its
    spatial locations are preserved. The frames differ in time: the Temporal Position Index in Frame Content
    (PS3.3 C.7.6.16.2.2) becomes their second dimension.
    """
    segmentation.DimensionIndexSequence.append(_time_dimension(segmentation.DimensionIndexSequence[0]))
    segments = list(segmentation.PerFrameFunctionalGroupsSequence)
    # A source of a single-frame class may still hold several frames. Then the segmentation must not refer to frame
    # numbers.
    source_class = segments[0].DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPClassUID
    refer_to_number = "Multi-frame" in source_class.name
    segmentation.NumberOfFrames = len(segments) * frame_count
    segmentation.PerFrameFunctionalGroupsSequence = [
        _functional_groups(groups, segment, number, refer_to_number)
        for number in range(1, frame_count + 1)
        for segment, groups in enumerate(segments, 1)
    ]


def _time_dimension(segment_dimension: Dataset) -> Dataset:
    """Return the dimension of time, in the organization of the segments' dimension."""
    dimension = Dataset()
    dimension.DimensionOrganizationUID = segment_dimension.DimensionOrganizationUID
    dimension.DimensionIndexPointer = TEMPORAL_POSITION_INDEX
    dimension.FunctionalGroupPointer = FRAME_CONTENT_SEQUENCE
    dimension.DimensionDescriptionLabel = "Frame"
    return dimension


def _functional_groups(first: Dataset, segment: int, number: int, refer_to_number: bool) -> Dataset:
    """Return the functional groups of a segment in frame `number` of the source, as a copy of those in the first frame.

    segment, number: counted from 1.
    """
    groups = copy.deepcopy(first)
    content = groups.FrameContentSequence[0]
    content.TemporalPositionIndex = number
    content.DimensionIndexValues = [segment, number]
    if refer_to_number:
        groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber = number
    return groups


def pack_masks(masks: Iterable[np.ndarray]) -> bytes:
    """Return the masks' pixels as bits, the first pixel lowest, with no gap between frames (PS3.5 8.1.1).

    masks: uint8 (rows, columns), 0 or 255. The result has an even length.
    """
    masks, packed = iter(masks), bytearray()
    while eight := list(itertools.islice(masks, 8)):  # eight frames end at the end of a byte
        packed += np.packbits(np.concatenate([mask.ravel() > 0 for mask in eight]), bitorder="little").tobytes()
    return bytes(packed) + b"\0" * (len(packed) % 2)
