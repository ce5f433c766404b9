"""The subject of each frame: from subjects.csv, the folder's name, or the file's name."""

import csv
import io
import re
from collections import defaultdict
from pathlib import PurePosixPath

from training.data.source_errors import SourceError
from training.data.sources.folder.annotation import FrameId
from training.data.sources.folder.file_names import file_stem, own_folders
from training.data.sources.folder.text_encoding import decode_text
from training.data.sources.folder_or_zip import SourceFiles
from training.data.sources.frame_mask_pairing import FrameKey

SUBJECTS_FILE = "subjects.csv"  # with the columns `file` and `subject`
UNRECORDED_SUBJECT = "folder"
NAME = re.compile(r"(?P<subject>.*?)[ _.-]*(?P<number>[0-9]*)")


def find_keys(files: SourceFiles, frames: list[FrameId], videos: set[str]) -> dict[FrameId, FrameKey]:
    """Return subject and number of each frame.

    subjects.csv decides, if there is one. Otherwise each video is a subject. Pictures and DICOM files of several
    folders have the folder as their subject. Those of one folder have the part of their name before the last number. If
    that gives no two subjects, each DICOM cine is a subject, and all single frames have the same subject.

    frames: sorted. videos: the files that are videos. Raises SourceError if subjects.csv is not complete.
    """
    names = list(dict.fromkeys(frame.file for frame in frames))
    others = [name for name in names if name not in videos]
    subjects = _read_subjects(files, names) or _subjects_of_folders(others) or _subjects_of_names(others)
    by_subject: dict[str, list[FrameId]] = defaultdict(list)
    for frame in frames:
        fallback = UNRECORDED_SUBJECT if frame.cine_index is None else file_stem(PurePosixPath(frame.file))
        by_subject[subjects.get(frame.file, fallback)].append(frame)
    return {
        frame: FrameKey(subject, number)
        for subject, members in by_subject.items()
        for frame, number in zip(members, _find_numbers(members), strict=True)
    }


def _find_numbers(frames: list[FrameId]) -> list[int]:
    """Return the number of each frame of a subject: that in the file's name, or the index in the subject's only cine.

    1, 2, ... if a frame has no such number, or two have the same.
    """
    is_one_file = len({frame.file for frame in frames}) == 1
    numbers = [_find_number(frame, is_one_file) for frame in frames]
    known = [number for number in numbers if number is not None]
    return known if len(set(known)) == len(frames) else list(range(1, len(frames) + 1))


def _find_number(frame: FrameId, is_one_file: bool) -> int | None:
    if frame.cine_index is not None:
        return frame.cine_index if is_one_file else None
    number = _match(frame.file)["number"]
    return int(number) if number else None


def _match(file: str) -> re.Match[str]:
    match = NAME.fullmatch(file_stem(PurePosixPath(file)))
    assert match is not None  # each part of the pattern may be empty
    return match


def _read_subjects(files: SourceFiles, frames: list[str]) -> dict[str, str]:
    table = next((name for name in files.names if PurePosixPath(name).name == SUBJECTS_FILE), None)
    if table is None:
        return {}
    try:
        rows = list(csv.DictReader(io.StringIO(decode_text(files.read(table)))))
    except (ValueError, csv.Error) as error:
        raise SourceError(table, f"is not a readable table ({error})", "Save it as CSV in UTF-8.") from error
    by_name = {row.get("file", ""): (row.get("subject") or "").strip() for row in rows}
    subjects = {frame: by_name.get(frame) or by_name.get(PurePosixPath(frame).name, "") for frame in frames}
    if missing := sorted(frame for frame, subject in subjects.items() if not subject):
        reason = f"has no subject for {len(missing)} frames, for example {missing[0]}"
        raise SourceError(table, reason, "Add them to the columns `file` and `subject`.")
    return {frame: subject.replace("/", "-") for frame, subject in subjects.items()}


def _subjects_of_folders(frames: list[str]) -> dict[str, str]:
    subjects = {frame: "".join(own_folders(PurePosixPath(frame))[-1:]) for frame in frames}
    return subjects if len(set(subjects.values())) > 1 and all(subjects.values()) else {}


def _subjects_of_names(frames: list[str]) -> dict[str, str]:
    subjects = {frame: _match(frame)["subject"] for frame in frames}
    return subjects if len(set(subjects.values())) > 1 and all(subjects.values()) else {}
