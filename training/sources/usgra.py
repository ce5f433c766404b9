"""usgra-seg: nerve frames of volunteers with masks by one anaesthetist (T. M. K. and others, CC BY 4.0).

images/NNNN.png is a frame, masks/NNNN.png its labels: 0 background, 1 nerve, 2 vessel. Whose frame it is was not
recorded, so all have one subject, and their numbers are the order in which they were taken.
"""

import io
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from training.sources.layout import VESSEL, Faults, Pair, SourceError, frame_of

LICENCE = "CC BY 4.0"
REPOSITORY = "https://github.com/tmkand/usgra-seg"
FOLDER = "dataset"
COMMIT = "66dc77d"
SUBJECT = "usgra"


def fetch(target: Path, repository: str = REPOSITORY, commit: str = COMMIT) -> None:
    """The data set's folder out of its git repository at a fixed commit, to `target`.

    Raises SourceError where the repository cannot be reached, with what to do by hand.
    """
    from dvc.repo import Repo

    try:
        Repo.get(repository, FOLDER, out=str(target), rev=commit)
    except Exception as fault:  # DVC, its SCM layer and the network each raise their own
        shutil.rmtree(target, ignore_errors=True)
        remedy = f"Fetch it by hand (`git clone {repository}`) and set nerve.path to its folder {FOLDER}."
        raise SourceError(f"{repository} at {commit}", f"cannot be fetched ({fault})", remedy) from fault


def pairs(path: Path | None, faults: Faults) -> Iterator[Pair]:
    """The pairs of the data set's folder; without a path, of its public repository.

    The authors' own test split (`test/`) is listed and left out: nothing here may be tuned on it.
    """
    if path is not None:
        yield from _pairs_of(path, faults)
        return
    with tempfile.TemporaryDirectory() as folder:
        fetch(Path(folder) / FOLDER)
        yield from _pairs_of(Path(folder) / FOLDER, faults)


def _pairs_of(path: Path, faults: Faults) -> Iterator[Pair]:
    if not (path / "images").is_dir() or not (path / "masks").is_dir():
        raise SourceError(str(path), "has no folders images and masks", "Set nerve.path to the data set's folder.")
    for file in sorted((path / "test").rglob("*.png")):
        faults.list(file.relative_to(path).as_posix(), "belongs to the authors' own test split")
    images, masks = (_numbered(path, kind, faults) for kind in ("images", "masks"))
    if not images:
        raise SourceError(str(path / "images"), "holds no NNNN.png", "Set nerve.path to the data set's folder.")
    for number in sorted(images.keys() | masks.keys()):
        if number not in images:
            remedy = "Copy the frame too, or remove the mask."
            faults.add(SourceError(f"masks/{masks[number].name}", "is a mask without a frame", remedy))
        elif number not in masks:
            remedy = "Copy the mask too, or remove the frame."
            faults.add(SourceError(f"images/{images[number].name}", "is a frame without a mask", remedy))
        elif pair := faults.checked(lambda n=number: _pair(images[n], masks[n], n)):
            yield pair


def _numbered(path: Path, kind: str, faults: Faults) -> dict[int, Path]:
    """The files NNNN.png of a folder by their number; others are listed."""
    numbered: dict[int, Path] = {}
    for file in sorted(p for p in (path / kind).iterdir() if p.is_file() and not p.name.startswith(".")):
        if file.suffix == ".png" and file.stem.isdecimal() and int(file.stem) not in numbered:
            numbered[int(file.stem)] = file
        else:
            faults.list(f"{kind}/{file.name}", "is no NNNN.png of the data set, or its number stands twice")
    return numbered


def _pair(image: Path, mask: Path, number: int) -> Pair:
    data = image.read_bytes()
    frame = frame_of(data, f"images/{image.name}")
    labels = _labels(mask)
    if labels.shape != frame.pixels.shape:
        sizes = [f"{shape[1]}x{shape[0]}" for shape in (labels.shape, frame.pixels.shape)]
        raise SourceError(f"masks/{mask.name}", f"is {sizes[0]} pixels, its frame {sizes[1]}", "Copy both anew.")
    return Pair(data, image.suffix, labels, SUBJECT, number, vessels=True, file=f"images/{image.name}")


def _labels(path: Path) -> np.ndarray:
    """uint8 (height, width): the palette's indices, which are the labels, not its colours."""
    name = f"masks/{path.name}"
    try:
        picture = Image.open(io.BytesIO(path.read_bytes()), formats=("PNG",))
        labels = np.asarray(picture)
    except Exception as fault:  # a damaged file makes Pillow raise nearly anything
        raise SourceError(name, f"is no readable mask ({fault})", "Copy it anew, or remove the pair.") from fault
    if labels.ndim != 2 or labels.dtype != np.uint8 or labels.max() > VESSEL:
        reason = f"holds other labels than 0, 1 and 2 (mode {picture.mode}, highest {labels.max()})"
        raise SourceError(name, reason, "Copy it anew, or remove the pair.")
    return labels
