"""The subject of each frame: from subjects.csv, the folder's name, or the file's name."""

import csv
import io
import re
from collections import defaultdict
from pathlib import PurePosixPath

from training.data.source_errors import SourceError
from training.data.sources.folder.names import own_folders
from training.data.sources.folder_or_zip import SourceFiles
from training.data.sources.frame_mask_pairing import FrameKey

SUBJECTS_FILE = "subjects.csv"  # with the columns `file` and `subject`
UNRECORDED_SUBJECT = "folder"
NAME = re.compile(r"(?P<subject>.*?)[ _.-]*(?P<number>[0-9]*)")


def find_keys(files: SourceFiles, frames: list[str]) -> dict[str, FrameKey]:
    """Return subject and number of each frame file.

    subjects.csv decides, if there is one. Otherwise frames of several folders have the folder as their subject. Frames
    of one folder have the part of their name before the last number. If that gives no two subjects, all frames have the
    same subject.

    Raises SourceError if subjects.csv is not complete.
    """
    subjects = _read_subjects(files, frames) or _subjects_of_folders(frames) or _subjects_of_names(frames)
    by_subject: dict[str, list[str]] = defaultdict(list)
    for frame in frames:
        by_subject[subjects.get(frame, UNRECORDED_SUBJECT)].append(frame)
    keys: dict[str, FrameKey] = {}
    for subject, members in by_subject.items():
        numbers = [int(_match(frame)["number"] or -1) for frame in members]
        if min(numbers) < 0 or len(set(numbers)) < len(numbers):  # no numbers, or the same number twice
            numbers = list(range(1, len(members) + 1))
        keys |= {frame: FrameKey(subject, number) for frame, number in zip(members, numbers, strict=True)}
    return keys


def _match(frame: str) -> re.Match[str]:
    match = NAME.fullmatch(PurePosixPath(frame).stem)
    assert match is not None  # each part of the pattern may be empty
    return match


def _read_subjects(files: SourceFiles, frames: list[str]) -> dict[str, str]:
    table = next((name for name in files.names if PurePosixPath(name).name == SUBJECTS_FILE), None)
    if table is None:
        return {}
    rows = csv.DictReader(io.StringIO(files.read(table).decode("utf-8-sig")))
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
