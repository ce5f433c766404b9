"""usgra-seg: nerve frames of volunteers with masks by one anaesthetist (T. M. K. and others, CC BY 4.0).

images/NNNN.png is a frame, masks/NNNN.png its labels: 0 background, 1 nerve, 2 vessel. Whose frame it is was not
recorded, so all have one subject. Their numbers are taken for an order; neighbours are not always of one scan, and a
frame's nearest twin may stand far off.

Whoever lays out frames of their own alike may record more: S_NNNN.png is of subject S; and a mask of 0 and 255 is one
of nerves alone. The authors' licence is given only to frames that are theirs, by their digests.
"""

import hashlib
import io
import re
import shutil
import tempfile
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path

import numpy as np
from PIL import Image

from training.sources.files import Files
from training.sources.layout import NERVE, VESSEL, Faults, Pair, SourceError, check_size, frame_of
from training.sources.pairing import Key, by_key, paired

LICENCE = "CC BY 4.0, T. M. K. and the authors of usgra-seg"
REPOSITORY = "https://github.com/tmkand/usgra-seg"
FOLDER = "dataset"
COMMIT = "66dc77d"
DIGESTS = Path(__file__).with_suffix(".sha256")  # of the images at that commit, as sha256sum writes them
UNRECORDED = "usgra"  # the subject of frames of nobody knows whom
NAME = re.compile(
    r"(?:[^/]+/)?(?P<kind>images|masks)/(?:(?P<subject>[0-9a-z]+)_)?(?P<number>[0-9]+)\.png", re.IGNORECASE
)
WANTED = "images/NNNN.png (or images/S_NNNN.png of a subject S)"


@cache
def theirs() -> frozenset[str]:
    """SHA-256 of each of the data set's images."""
    return frozenset(line.split()[0] for line in DIGESTS.read_text().splitlines())


def fetch(target: Path, repository: str = REPOSITORY, commit: str = COMMIT) -> None:
    """The data set's folder out of its git repository at a fixed commit, to `target`.

    Raises SourceError where the repository cannot be reached, with what to do by hand.
    """
    from dvc.repo import Repo

    try:
        Repo.get(repository, FOLDER, out=str(target), rev=commit)
    except Exception as fault:  # DVC, its SCM layer and the network each raise their own
        shutil.rmtree(target, ignore_errors=True)
        by_hand = f"`git clone {repository} usgra-seg`, `git -C usgra-seg checkout {commit}`"
        remedy = f"Fetch it by hand ({by_hand}) and set nerve.path to usgra-seg/{FOLDER}."
        raise SourceError(
            f"{repository} at {commit}", f"cannot be fetched ({fault.__cause__ or fault})", remedy
        ) from fault


def pairs(path: Path | None, faults: Faults) -> Iterator[Pair]:
    """The pairs of the data set's folder (or a zip of it); without a path, of its public repository.

    The authors' own test split (`test/`) is listed and left out: nothing here may be tuned on it.
    Raises SourceError for a fault of the whole; a fault of one pair goes to `faults`.
    """
    if path is not None:
        yield from _pairs_of(path, faults)
        return
    with tempfile.TemporaryDirectory() as folder:
        fetch(Path(folder) / FOLDER)
        yield from _pairs_of(Path(folder) / FOLDER, faults)


def _pairs_of(path: Path, faults: Faults) -> Iterator[Pair]:
    files = Files(path)
    named: dict[str, list[tuple[Key, str]]] = {"images": [], "masks": []}
    for file in files.names:
        if file.startswith("test/"):
            faults.list(file, "belongs to the authors' own test split, on which nothing is tuned")
        elif found := NAME.fullmatch(file):
            key = (found["subject"] or UNRECORDED, int(found["number"]))
            named[found["kind"].lower()].append((key, file))
        else:
            faults.list(file, f"is neither {WANTED} nor the mask of one")
    if not named["images"]:
        remedy = "Name the folder, or zip of it, in which images/ and masks/ lie (nerve.path in params.yaml)."
        raise SourceError(str(path), f"holds no {WANTED}", remedy)
    images, masks = (by_key(named[kind], faults) for kind in named)
    for key, image, mask in paired(images, masks, str(path), faults):
        if pair := faults.checked(partial(_pair, files, key, image, mask)):
            yield pair


def _pair(files: Files, key: Key, image: str, mask: str) -> Pair:
    data = files.read(image)
    frame = frame_of(data, image)
    labels, vessels = labels_of(files.read(mask), mask)
    check_size(labels, frame.pixels, mask, "Copy both anew, or remove the pair.")
    licence = LICENCE if hashlib.sha256(data).hexdigest() in theirs() else ""
    return Pair(data, ".png", labels, *key, vessels=vessels, licence=licence, file=image)


def labels_of(data: bytes, file: str) -> tuple[np.ndarray, bool]:
    """A mask's uint8 (height, width), the palette's indices, which are the labels, not its colours; and whether vessels
    are labelled. Raises SourceError."""
    try:
        picture = Image.open(io.BytesIO(data), formats=("PNG",))
        labels = np.asarray(picture)
    except Exception as fault:  # a damaged file makes Pillow raise nearly anything
        reason = "is no readable mask (not a whole PNG)"
        raise SourceError(file, reason, "Copy it anew, or remove the pair.") from fault
    if labels.ndim == 2 and labels.dtype == np.uint8 and labels.any() and np.isin(labels, (0, 255)).all():
        return labels // 255 * NERVE, False
    if labels.ndim != 2 or labels.dtype != np.uint8 or labels.max() > VESSEL:
        reason = f"holds other labels than 0, 1 and 2, or 0 and 255 (mode {picture.mode}, highest {labels.max()})"
        raise SourceError(file, reason, "Copy it anew, or remove the pair.")
    return labels, True
