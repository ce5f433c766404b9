"""DICOM ultrasounds of our own: every kind of pixel, one file a call."""

import io

import cv2
import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)

BY_OPENCV = {
    JPEGBaseline8Bit: (".jpg", [cv2.IMWRITE_JPEG_QUALITY, 90]),
    JPEG2000Lossless: (".jp2", [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000]),
}


def ultrasound(frames: np.ndarray, **attributes) -> Dataset:
    """frames: uint8 or uint16 (rows, columns), (N, rows, columns) or (N, rows, columns, 3), uncompressed."""
    colour = frames.ndim == 4
    cine = frames.ndim > 2
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID = UltrasoundMultiFrameImageStorage if cine else UltrasoundImageStorage
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.StudyInstanceUID, made.SeriesInstanceUID = generate_uid(), generate_uid()
    made.Modality, made.PatientName, made.PatientID = "US", "Doe^Jane", "4711"
    made.StudyDate, made.StudyTime, made.StudyID, made.AccessionNumber = "20261123", "101112", "S1", "A1"
    made.PatientSex, made.PatientBirthDate, made.ReferringPhysicianName = "F", "19700101", "Who^Doctor"
    made.SeriesNumber, made.InstanceNumber = 2, 5
    made.Rows, made.Columns = frames.shape[1:3] if cine else frames.shape
    made.SamplesPerPixel = 3 if colour else 1
    made.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    made.BitsAllocated = made.BitsStored = frames.itemsize * 8
    made.HighBit = made.BitsStored - 1
    made.PixelRepresentation = 0
    if colour:
        made.PlanarConfiguration = 0
    if cine:
        made.NumberOfFrames = len(frames)
        made.FrameTime, made.FrameIncrementPointer = 33.3, 0x00181063
    made.PixelData = frames.tobytes() + b"\0" * (frames.nbytes % 2)
    made["PixelData"].VR = "OW" if frames.itemsize == 2 else "OB"
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def by_opencv(made: Dataset, syntax: UID) -> Dataset:
    """The grey dataset with its frames compressed as JPEG or JPEG 2000, which pydicom alone does not write."""
    kind, settings = BY_OPENCV[syntax]
    frames = made.pixel_array.reshape(-1, made.Rows, made.Columns)
    coded = [cv2.imencode(kind, frame, settings)[1].tobytes() for frame in frames]
    if syntax == JPEG2000Lossless:  # DICOM holds the codestream without the JP2 file around it
        coded = [file[file.index(b"\xff\x4f\xff\x51") :] for file in coded]
    made.PixelData = encapsulate(coded)
    made["PixelData"].VR = "OB"
    made["PixelData"].is_undefined_length = True
    made.file_meta.TransferSyntaxUID = syntax
    return made


def region(x0: int, y0: int, x1: int, y1: int, **attributes) -> Dataset:
    """An ultrasound region whose pixels are 0.1 mm wide and 0.2 mm high."""
    made = Dataset()
    made.RegionSpatialFormat, made.RegionDataType, made.RegionFlags = 1, 1, 0
    made.RegionLocationMinX0, made.RegionLocationMinY0 = x0, y0
    made.RegionLocationMaxX1, made.RegionLocationMaxY1 = x1, y1
    made.PhysicalUnitsXDirection = made.PhysicalUnitsYDirection = 3
    made.PhysicalDeltaX, made.PhysicalDeltaY = 0.01, 0.02
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def written(dataset: Dataset) -> bytes:
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()
