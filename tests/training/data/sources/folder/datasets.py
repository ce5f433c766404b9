"""Small data sets for the source folder."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SegmentationStorage, generate_uid

from service.rendering.dicom_segmentation_frames import pack_masks
from tests.dicoms import to_bytes
from tests.frames import disc
from tests.project_copy import nerve
from training.data.manifest import ManifestRow, read_labels
from training.data.source_errors import IngestLog
from training.data.source_ingestion import ingest_source
from training.workspace.nerve_parameters import NerveParameters

HEIGHT, WIDTH = 60, 80
TRIANGLE, SQUARE = [[10, 10], [40, 12], [20, 50]], [[30, 30], [60, 30], [60, 50], [30, 50]]
CLASSES = {"nerve": "nerve", "artery": "vessel", "muscle": "ignore"}


def parameters(path: Path, **changes: Any) -> NerveParameters:
    return nerve({"source": "folder", "path": str(path), "on_error": "stop", "classes": CLASSES} | changes)


def ingest(path: Path, target: Path, **changes: Any) -> tuple[list[ManifestRow], list[np.ndarray], IngestLog]:
    """Return the rows, the labels of each, and the log."""
    rows, log = ingest_source(parameters(path, **changes), target)
    return rows, [read_labels(row, target) for row in rows], log


def write(file: Path, data: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


def encode(pixels: np.ndarray, file_format: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, file_format)
    return file.getvalue()


def polygon(points: list[list[float]]) -> np.ndarray:
    """Return the polygon's pixels with its outline: bool (HEIGHT, WIDTH)."""
    image = Image.new("1", (WIDTH, HEIGHT))
    ImageDraw.Draw(image).polygon([tuple(point) for point in points], fill=1, outline=1)
    return np.array(image)


def save(folder: Path, **datasets: Dataset) -> Path:
    """Write each dataset to a DICOM file of its name. Returns the folder."""
    for name, dataset in datasets.items():
        write(folder / f"{name}.dcm", to_bytes(dataset))
    return folder


def make_segmentation(
    image: Dataset,
    masks: list[np.ndarray],
    frame_numbers: list[int | None] | None = None,
    segments: list[int] | None = None,
    labels: tuple[str, ...] = ("Nerve",),
) -> Dataset:
    """Return a BINARY DICOM Segmentation with a frame for each mask, bool (rows, columns).

    frame_numbers: the frame of the image that each marks, from 1. None: no number.
    segments: the segment of each frame, from 1. Default: the first.
    """
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality = SegmentationStorage, generate_uid(), "SEG"
    dataset.SegmentationType = "BINARY"
    dataset.NumberOfFrames, (dataset.Rows, dataset.Columns) = len(masks), masks[0].shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    dataset.BitsAllocated = dataset.BitsStored = 1
    dataset.HighBit = 0
    dataset.SegmentSequence = [
        item(SegmentNumber=number, SegmentLabel=label) for number, label in enumerate(labels, start=1)
    ]
    dataset.PerFrameFunctionalGroupsSequence = [
        functional_groups(image, number, segment)
        for number, segment in zip(frame_numbers or [None] * len(masks), segments or [1] * len(masks), strict=True)
    ]
    dataset.PixelData = pack_masks(mask.astype(np.uint8) for mask in masks)
    return dataset


def functional_groups(image: Dataset, frame_number: int | None, segment: int) -> Dataset:
    source = item(ReferencedSOPClassUID=image.SOPClassUID, ReferencedSOPInstanceUID=image.SOPInstanceUID)
    if frame_number is not None:
        source.ReferencedFrameNumber = frame_number
    return item(
        SegmentIdentificationSequence=[item(ReferencedSegmentNumber=segment)],
        DerivationImageSequence=[item(SourceImageSequence=[source])],
    )


def item(**elements: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


# The masks and frames of the tests with DICOM files.
SHAPE, OTHER = polygon(SQUARE), polygon(TRIANGLE)
EMPTY = np.zeros_like(SHAPE)
GREY = disc(HEIGHT, WIDTH)
CINE = np.stack([disc(HEIGHT, WIDTH, seed=seed) for seed in range(4)])
