"""The names of folders and files: which are masks, and which frame they belong to."""

from pathlib import PurePosixPath

FRAME_FOLDERS = ("frame", "frames", "image", "images", "img", "imgs")
MASK_FOLDERS = (
    *("mask", "masks", "label", "labels", "annotation", "annotations"),
    *("segmentation", "segmentations", "json", "labelme"),
)
MASK_SUFFIXES = ("_mask", "_label", "_seg")


def is_mask(path: PurePosixPath) -> bool:
    """Return whether a picture is a mask, by the name of its folder or its own."""
    return path.parent.name.lower() in MASK_FOLDERS or path.stem.lower().endswith(MASK_SUFFIXES)


def own_folders(path: PurePosixPath) -> list[str]:
    """Return the folders of a file whose names say more than frames or masks."""
    return [name for name in path.parent.parts if name.lower() not in (*FRAME_FOLDERS, *MASK_FOLDERS)]


def frame_key(path: PurePosixPath) -> str:
    """Return what a frame's path and its mask's path have in common: anna/1 of anna/images/1.png, anna/masks/1.png."""
    stem = path.stem
    for suffix in MASK_SUFFIXES:
        if stem.lower().endswith(suffix):
            stem = stem[: -len(suffix)]
    return "/".join([*own_folders(path), stem])
