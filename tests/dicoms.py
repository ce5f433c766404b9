"""Make DICOM ultrasound files with every kind of pixel, and decode the frames of a file."""

import io

import numpy as np
from PIL import Image
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

from service.decoding.cine import open_cine
from service.decoding.frame import Frame

PATIENT_AND_STUDY = {
    "Modality": "US",
    "PatientName": "Doe^Jane",
    "PatientID": "4711",
    "PatientSex": "F",
    "PatientBirthDate": "19700101",
    "ReferringPhysicianName": "Who^Doctor",
    "StudyDate": "20261123",
    "StudyTime": "101112",
    "StudyID": "S1",
    "AccessionNumber": "A1",
    "SeriesNumber": 2,
    "InstanceNumber": 5,
}


def make_ultrasound(frames: np.ndarray, **attributes) -> Dataset:
    """Return an uncompressed ultrasound. Attributes replace those that are set here.

    frames: uint8 or uint16 (rows, columns), (N, rows, columns) or (N, rows, columns, 3). Three or more axes make a
    multi-frame ultrasound.
    """
    is_colour, is_cine = frames.ndim == 4, frames.ndim > 2
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = UltrasoundMultiFrameImageStorage if is_cine else UltrasoundImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.Rows, dataset.Columns = frames.shape[1:3] if is_cine else frames.shape
    dataset.SamplesPerPixel = 3 if is_colour else 1
    dataset.PhotometricInterpretation = "RGB" if is_colour else "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = frames.itemsize * 8
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = 0
    if is_colour:
        dataset.PlanarConfiguration = 0
    if is_cine:
        dataset.NumberOfFrames = len(frames)
        dataset.FrameTime, dataset.FrameIncrementPointer = 33.3, 0x00181063
    dataset.PixelData = frames.tobytes() + b"\0" * (frames.nbytes % 2)
    dataset["PixelData"].VR = "OW" if frames.itemsize == 2 else "OB"
    for keyword, value in (PATIENT_AND_STUDY | attributes).items():
        setattr(dataset, keyword, value)
    return dataset


def make_compressed_ultrasound(frames: np.ndarray, syntax: UID) -> Dataset:
    """Return an ultrasound in a compressed transfer syntax. frames: as for `make_ultrasound`.

    Pillow writes JPEG 2000 and JPEG, which pydicom does not.
    """
    dataset = make_ultrasound(frames)
    if syntax not in (JPEG2000Lossless, JPEGBaseline8Bit):
        dataset.compress(syntax, generate_instance_uid=False)
        return dataset
    kind, options = ("JPEG2000", {"no_jp2": True}) if syntax == JPEG2000Lossless else ("JPEG", {})
    codestreams = []
    for frame in frames if frames.ndim > 2 else [frames]:
        Image.fromarray(frame).save(file := io.BytesIO(), kind, **options)
        codestreams.append(file.getvalue())
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate(codestreams)
    return dataset


def make_region(x0: int, y0: int, x1: int, y1: int, **attributes) -> Dataset:
    """Return an ultrasound region of tissue with pixels 0.1 mm wide and 0.2 mm high. Corners: its outermost pixels."""
    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 1, 0
    region.RegionLocationMinX0, region.RegionLocationMinY0 = x0, y0
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = x1, y1
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX, region.PhysicalDeltaY = 0.01, 0.02
    for keyword, value in attributes.items():
        setattr(region, keyword, value)
    return region


def to_bytes(dataset: Dataset) -> bytes:
    """Return the DICOM file of a dataset."""
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def decode_frames(data: bytes) -> list[Frame]:
    """Return all frames of a file, decoded like those of an upload."""
    cine = open_cine(io.BytesIO(data))
    frames = [cine.decode(cine.read_encoded(index), index) for index in range(cine.frame_count)]
    assert [frame.index for frame in frames] == list(range(cine.frame_count))
    return frames
