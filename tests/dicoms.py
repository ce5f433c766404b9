"""DICOM ultrasounds of our own: every kind of pixel, one file a call; and the frames that are read from a file."""

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

from service.cine import open_cine
from service.frame import Frame


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


def compressed(frames: np.ndarray, syntax: UID) -> Dataset:
    """Of frames as `ultrasound` takes them; JPEG 2000 and JPEG by Pillow, as pydicom writes neither."""
    made = ultrasound(frames)
    if syntax not in (JPEG2000Lossless, JPEGBaseline8Bit):
        made.compress(syntax, generate_instance_uid=False)
        return made
    kind, options = ("JPEG2000", {"no_jp2": True}) if syntax == JPEG2000Lossless else ("JPEG", {})
    streams = []
    for frame in frames if frames.ndim > 2 else [frames]:
        Image.fromarray(frame).save(stream := io.BytesIO(), kind, **options)
        streams.append(stream.getvalue())
    made.file_meta.TransferSyntaxUID = syntax
    made.PixelData = encapsulate(streams)
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


def frames(data: bytes) -> list[Frame]:
    """All frames of a file, as an upload's are read."""
    cine = open_cine(io.BytesIO(data))
    decoded = [cine.decode(cine.encoded_at(index), index) for index in range(cine.count)]
    assert [frame.index for frame in decoded] == list(range(cine.count))
    return decoded
