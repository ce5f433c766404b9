"""Sort the DICOM files of the folder: ultrasound images and their segmentations. Read them with bounds on memory."""

import warnings
import zlib
from typing import Any, NamedTuple

from pydicom import Dataset, dcmread, uid
from pydicom.filereader import read_dataset

from service.decoding.dicom.dicom_header import MAX_INFLATED_BYTES
from service.decoding.dicom_signature import FILE_META_GROUP, HEAD_BYTES, find_start
from training.data.source_errors import IngestLog, SourceError
from training.data.sources.folder.annotation import FrameId
from training.data.sources.folder.frame_file import open_cine_file
from training.data.sources.folder_or_zip import SourceFiles
from training.data.sources.frame_mask_pairing import index_by_key

SEGMENTATION_CLASSES = (uid.SegmentationStorage, "1.2.840.10008.5.1.4.1.1.66.7")  # the second: label maps
UNREAD_SEGMENTATION_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.66.5": "Surface Segmentation",
    "1.2.840.10008.5.1.4.1.1.66.8": "Height Map Segmentation",
    "1.2.840.10008.5.1.4.1.1.481.3": "RT Structure Set",
}
TAGS = ["SOPClassUID", "SOPInstanceUID", "Rows"]


class DicomImage(NamedTuple):
    """An ultrasound file. instance_uid: SOPInstanceUID, empty if it has none. frame_count: number of its frames."""

    file: str
    instance_uid: str
    frame_count: int

    def frame(self, index: int) -> FrameId:
        """Return a frame. index: from 0."""
        return FrameId(self.file, index if self.frame_count > 1 else None)


def sort_dicoms(files: SourceFiles, names: list[str], log: IngestLog) -> tuple[list[DicomImage], list[str]]:
    """Return the ultrasound images, and the files of segmentations.

    Files without pixels are left out. Report files that are not ultrasound, and images that are there twice.
    """
    images, segmentations = [], []
    for file in names:
        try:
            header = read_dicom(files, file, stop_before_pixels=True, specific_tags=list(TAGS))
            sop_class = header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID", "")
            if sop_class in SEGMENTATION_CLASSES:
                segmentations.append(file)
            elif sop_class in UNREAD_SEGMENTATION_CLASSES:
                reason = f"is a DICOM {UNREAD_SEGMENTATION_CLASSES[sop_class]}, which is not read"
                raise SourceError(file, reason, "Export it as Segmentation (BINARY), or remove it.")
            elif "Rows" not in header:
                log.leave_out(file, f"is a DICOM file without pixels ({uid.UID(sop_class).name or 'no SOP class'})")
            else:
                frame_count = open_cine_file(files, file).frame_count
                images.append(DicomImage(file, str(header.get("SOPInstanceUID", "")), frame_count))
        except SourceError as error:
            log.report_error(error)
    uids = [(image.instance_uid or image.file, image.file) for image in images]
    once = set(index_by_key(uids, log, "has the same SOPInstanceUID as another file").values())
    return [image for image in images if image.file in once], segmentations


def read_dicom(files: SourceFiles, file: str, **options: Any) -> Dataset:
    """Return a DICOM file as `pydicom.dcmread` reads it. Raises SourceError if it is damaged, or too large inflated.

    options: of `dcmread`.
    """
    try:
        with files.open(file) as opened, warnings.catch_warnings(action="ignore"):
            _check_inflated_size(opened, file)
            opened.seek(0)
            return dcmread(opened, force=True, **options)
    except SourceError:
        raise
    except Exception as error:  # pydicom raises many classes for a damaged file
        raise SourceError(file, "is not a readable DICOM file", "Copy it again, or remove it.") from error


def _check_inflated_size(opened: Any, file: str) -> None:
    """Raise SourceError for a deflated file that does not fit into memory: pydicom inflates all of it at once."""
    opened.seek(find_start(opened.read(HEAD_BYTES)) or 0)
    meta = read_dataset(opened, False, True, stop_when=lambda tag, *_: tag >> 16 != FILE_META_GROUP)
    if meta.get("TransferSyntaxUID") != uid.DeflatedExplicitVRLittleEndian:
        return
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflater.decompress(opened.read(), MAX_INFLATED_BYTES)
    if inflater.unconsumed_tail and not inflater.eof:
        reason = f"is deflated, and has more than {MAX_INFLATED_BYTES // 2**20} MiB otherwise"
        raise SourceError(file, reason, "Save it with another transfer syntax.")
