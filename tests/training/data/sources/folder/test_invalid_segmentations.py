"""DICOM Segmentations that cannot be masks: the error names the file and the remedy."""

from collections.abc import Callable

import pytest
from pydicom import Dataset

from tests.dicoms import make_ultrasound
from tests.training.data.sources.folder.datasets import (
    CINE,
    EMPTY,
    GREY,
    HEIGHT,
    OTHER,
    SHAPE,
    WIDTH,
    ingest,
    make_segmentation,
    save,
)
from training.data.source_errors import SourceError


def source_image(segmentation: Dataset) -> Dataset:
    return segmentation.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence[0]


# How to spoil the segmentation of a cine, and the reason in the message.
SPOILED: dict[str, tuple[Callable[[Dataset], object], str]] = {
    "another image": (
        lambda seg: setattr(source_image(seg), "ReferencedSOPInstanceUID", "1.2.3"),
        r"marks a DICOM image that is not there \(SOPInstanceUID 1\.2\.3\)\. Add the image",
    ),
    "no such frame": (
        lambda seg: setattr(source_image(seg), "ReferencedFrameNumber", 5),
        r"marks frame 5 of image\.dcm, which has 4 frames",
    ),
    "no frame number": (
        lambda seg: delattr(source_image(seg), "ReferencedFrameNumber"),
        r"does not say which of the 4 frames of image\.dcm it marks\. Export it with ReferencedFrameNumber",
    ),
    "several frame numbers": (
        lambda seg: setattr(source_image(seg), "ReferencedFrameNumber", [1, 2]),
        "has one mask for several frames .*1, 2",
    ),
    "the same frame twice": (
        lambda seg: setattr(source_image(seg), "ReferencedFrameNumber", 2),
        r"has two masks of the same segment for image\.dcm\[1\]",
    ),
    "no image": (
        lambda seg: delattr(seg.PerFrameFunctionalGroupsSequence[0], "DerivationImageSequence"),
        "does not say which image it marks",
    ),
    "resampled": (
        lambda seg: setattr(source_image(seg), "SpatialLocationsPreserved", "NO"),
        "marks a picture that is turned or resampled",
    ),
    "unknown type": (
        lambda seg: setattr(seg, "SegmentationType", "PROBABILITY"),
        "has the SegmentationType PROBABILITY, which is not read. Export it as BINARY, FRACTIONAL, LABELMAP",
    ),
    "surface": (
        lambda seg: setattr(seg, "SOPClassUID", "1.2.840.10008.5.1.4.1.1.66.5"),
        "is a DICOM Surface Segmentation, which is not read",
    ),
    "no segments": (lambda seg: delattr(seg, "SegmentSequence"), "is not a complete DICOM Segmentation"),
    "an undescribed segment": (
        lambda seg: setattr(seg.SegmentSequence[0], "SegmentNumber", 7),
        "is not a complete DICOM Segmentation .*segment 1, which is not described",
    ),
    "fewer groups than frames": (
        lambda seg: seg.PerFrameFunctionalGroupsSequence.pop(),
        "declares 2 frames, but describes 1",
    ),
    "truncated pixels": (lambda seg: setattr(seg, "PixelData", b"\1\2"), "has pixels that cannot be decoded"),
    "another size": (
        lambda seg: (setattr(seg, "Rows", HEIGHT // 2), setattr(seg, "Columns", WIDTH * 2)),
        "has 160x30 pixels, but its frame has 80x60. Export it in the size of its image",
    ),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_an_invalid_segmentation_is_an_error_that_names_it(tmp_path, kind) -> None:
    image = make_ultrasound(CINE)
    segmentation = make_segmentation(image, [SHAPE, OTHER], frame_numbers=[1, 2])
    spoil, reason = SPOILED[kind]
    spoil(segmentation)
    save(tmp_path / "set", image=image, seg=segmentation)
    with pytest.raises(SourceError, match=f"^seg.dcm: .*{reason}"):
        ingest(tmp_path / "set", tmp_path / "frames")


def test_segmentations_that_contradict_each_other_are_an_error(tmp_path) -> None:
    """A segmentation without a pixel of its class says that the class is not there."""
    image = make_ultrasound(GREY)
    for other in ([OTHER], [EMPTY]):
        first, second = make_segmentation(image, [SHAPE]), make_segmentation(image, other)
        save(tmp_path / "set", image=image, first=first, second=second)
        reason = r"second\.dcm: gives 'nerve' other pixels than first\.dcm on image\.dcm\. Remove one of the two"
        with pytest.raises(SourceError, match=reason):
            ingest(tmp_path / "set", tmp_path / "frames")
