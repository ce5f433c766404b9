"""Sort the files of the folder by kind. The content of a file decides, where its name does not."""

from dataclasses import dataclass, field
from enum import Enum, auto
from functools import partial
from pathlib import PurePosixPath

from service.decoding.dicom_signature import HEAD_BYTES, find_start
from service.decoding.file_formats import PICTURES, VIDEOS, detect_format
from training.data.source_errors import IngestLog
from training.data.sources.folder.file_names import ANNOTATION_SUFFIX, DICOM_SUFFIXES, is_mask
from training.data.sources.folder.subjects import SUBJECTS_FILE
from training.data.sources.folder_or_zip import PICTURE_SUFFIXES, VIDEO_SUFFIXES, SourceFiles


class Kind(Enum):
    """What a file is."""

    PICTURE = auto()
    VIDEO = auto()
    DICOM = auto()
    JSON = auto()
    TABLE = auto()
    OTHER = auto()


@dataclass
class SortedFiles:
    """The files of each kind. pictures: those that are not masks. masks: pictures."""

    pictures: list[str] = field(default_factory=list)
    masks: list[str] = field(default_factory=list)
    videos: list[str] = field(default_factory=list)
    dicoms: list[str] = field(default_factory=list)
    json: list[str] = field(default_factory=list)


def sort_files(files: SourceFiles, log: IngestLog) -> SortedFiles:
    """Return the files by kind. Other files are left out."""
    result = SortedFiles()
    for file in files.names:
        kind = log.attempt(partial(_detect_kind, files, file))
        if kind is Kind.PICTURE:
            (result.masks if is_mask(PurePosixPath(file)) else result.pictures).append(file)
        elif kind is Kind.VIDEO:
            result.videos.append(file)
        elif kind is Kind.DICOM:
            result.dicoms.append(file)
        elif kind is Kind.JSON:
            result.json.append(file)
        elif kind is Kind.OTHER:
            log.leave_out(file, "is neither a picture nor annotations")
    return result


def _detect_kind(files: SourceFiles, file: str) -> Kind:
    """Return a file's kind. Raises SourceError if it cannot be read."""
    path = PurePosixPath(file)
    suffix = path.suffix.lower()
    if path.name == SUBJECTS_FILE:
        return Kind.TABLE
    if suffix == ANNOTATION_SUFFIX:
        return Kind.JSON
    if suffix in VIDEO_SUFFIXES:
        return Kind.VIDEO
    if suffix in PICTURE_SUFFIXES and suffix not in DICOM_SUFFIXES:
        return Kind.PICTURE
    head = files.read_head(file, HEAD_BYTES)
    if find_start(head) is not None:
        return Kind.DICOM
    content = detect_format(head)
    if content in PICTURES or suffix in DICOM_SUFFIXES:
        return Kind.PICTURE
    return Kind.VIDEO if content in VIDEOS else Kind.OTHER
