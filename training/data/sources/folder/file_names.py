"""The names of folders and files: which are masks, and which frame they belong to."""

import re
from pathlib import PurePosixPath

from training.data.sources.folder_or_zip import PICTURE_SUFFIXES, VIDEO_SUFFIXES

ANNOTATION_SUFFIX = ".json"
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
SUFFIXES = (*PICTURE_SUFFIXES, *VIDEO_SUFFIXES, *DICOM_SUFFIXES, ANNOTATION_SUFFIX)

# Folders of frames and of masks; also with a word before, as in train_images.
FRAME_FOLDERS = ("frame", "frames", "image", "images", "img", "imgs", "video", "videos", "dicom")
MASK_FOLDERS = (
    *("mask", "masks", "label", "labels", "annotation", "annotations"),
    *("segmentation", "segmentations", "json", "labelme"),
)
FOLDER = re.compile(rf"(?:(?P<own>.*)[ _.-])?(?P<kind>{'|'.join((*FRAME_FOLDERS, *MASK_FOLDERS))})", re.IGNORECASE)
MASK_SUFFIXES = ("_mask", "_label", "_seg")


def is_mask(path: PurePosixPath) -> bool:
    """Return whether a picture is a mask, by its name or by the innermost of FRAME_FOLDERS and MASK_FOLDERS."""
    if file_stem(path).lower().endswith(MASK_SUFFIXES):
        return True
    kinds = [match["kind"].lower() for name in path.parent.parts if (match := FOLDER.fullmatch(name))]
    return bool(kinds) and kinds[-1] in MASK_FOLDERS


def own_folders(path: PurePosixPath) -> list[str]:
    """Return what the names of a file's folders say beside frames or masks: train of train_images, none of images."""
    own = [match["own"] if (match := FOLDER.fullmatch(name)) else name for name in path.parent.parts]
    return [name for name in own if name]


def file_stem(path: PurePosixPath) -> str:
    """Return a file's name without its suffix. The end of a DICOM file's name is often a number and no suffix."""
    return path.stem if path.suffix.lower() in SUFFIXES else path.name


def frame_key(path: PurePosixPath) -> str:
    """Return what a frame's path and its mask's path have in common: anna/1 of anna/images/1.png, anna/masks/1.png."""
    stem = file_stem(path)
    for suffix in MASK_SUFFIXES:
        if stem.lower().endswith(suffix):
            stem = stem[: -len(suffix)]
    return "/".join([*own_folders(path), stem])


def end_alike(first: str, second: str) -> bool:
    """Return whether two keys of frames can mean the same frame: one of them may lack folders at its start."""
    names, other_names = first.split("/"), second.split("/")
    length = min(len(names), len(other_names))
    return names[-length:] == other_names[-length:]
