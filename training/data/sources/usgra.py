"""usgra-seg: ultrasound frames of nerves in volunteers, labelled by one anaesthetist (T. M. K. et al., CC BY 4.0).

images/NNNN.png is a frame, masks/NNNN.png its labels: 0 background, 1 nerve, 2 vessel. The data set does not record
subjects, so all frames get the same subject, and their numbers give the order. Neighbouring numbers can belong to
different scans, and a near-duplicate can have a distant number.

Your own frames can have the same layout and record more: images/S_NNNN.png is a frame of subject S, and a mask with the
values 0 and 255 labels nerves only. The authors' licence is given only to the authors' frames, which are known by their
digests.
"""

import hashlib
import io
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
from PIL import Image

from training.data.frame_mask_pair import NERVE, VESSEL, FrameMaskPair
from training.data.source_errors import IngestLog, SourceError
from training.data.sources.folder_or_zip import SourceFiles, leave_out_or_report
from training.data.sources.frame_mask_pairing import FrameKey, PairFiles, index_by_key, pair_files, read_pair

LICENCE = "CC BY 4.0, T. M. K. and the authors of usgra-seg"
REPOSITORY = "https://github.com/tmkand/usgra-seg"
FOLDER = "dataset"
COMMIT = "b7429be38521a4b585e36ad6fd06983c63de9f83"
DIGESTS = Path(__file__).with_suffix(".sha256")  # of each image and mask at that commit, as sha256sum writes them
UNRECORDED_SUBJECT = "usgra"  # the subject of frames whose subject is not recorded
NAME = re.compile(
    r"(?:[^/]+/)?(?P<kind>images|masks)/(?:(?P<subject>[0-9a-z]+)_)?(?P<number>[0-9]+)\.png", re.IGNORECASE
)
FRAME_NAMES = "images/NNNN.png (or images/S_NNNN.png of a subject S)"


@cache
def authors_digests() -> frozenset[str]:
    """Return the SHA-256 of each image and mask of the data set."""
    return frozenset(line.split()[0] for line in DIGESTS.read_text().splitlines())


def fetch(target: Path, repository: str = REPOSITORY, commit: str = COMMIT) -> None:
    """Download the data set's folder from its git repository, at a fixed commit, to `target`.

    Raises SourceError if this fails. Its remedy describes how to download the data set by hand.
    """
    from dvc.repo import Repo

    try:
        Repo.get(repository, FOLDER, out=str(target), rev=commit)
    except Exception as error:  # DVC, its git library and the network raise unrelated classes
        shutil.rmtree(target, ignore_errors=True)
        commands = f"`git clone {repository} usgra-seg`, `git -C usgra-seg checkout {commit}`"
        raise SourceError(
            f"{repository} at {commit}",
            f"cannot be downloaded ({error.__cause__ or error})",
            f"Download it by hand ({commands}) and set nerve.path in params.yaml to usgra-seg/{FOLDER}.",
        ) from error


def check_download(folder: Path, digests: Path = DIGESTS) -> None:
    """Check that a folder holds the listed images and masks and no others, unchanged. Raises SourceError."""
    expected = {name: digest for digest, name in map(str.split, digests.read_text().splitlines())}
    found = {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for kind in ("images", "masks")
        for file in (folder / kind).glob("*")
    }
    if changed := sorted(name for name, _ in expected.items() ^ found.items()):
        names = f"{', '.join(sorted(set(changed))[:3])} ..."
        reason = f"differs from the digests in {digests.name} ({names})"
        raise SourceError(REPOSITORY, reason, "Do not train on it. Compare the repository with an older copy.")


def pairs(path: Path | None, log: IngestLog) -> Iterator[FrameMaskPair]:
    """Yield the pairs of the data set's folder or zip file; without a path, of its public repository.

    The authors' test split (`test/`) is left out: no model may be tuned on it.
    Raises SourceError for an error of the whole data set. The error of one pair goes to `log`.
    """
    if path is not None:
        yield from _pairs(path, log)
        return
    with tempfile.TemporaryDirectory() as folder:
        fetch(Path(folder) / FOLDER)
        check_download(Path(folder) / FOLDER)
        yield from _pairs(Path(folder) / FOLDER, log)


def _pairs(path: Path, log: IngestLog) -> Iterator[FrameMaskPair]:
    files = SourceFiles(path)
    by_kind: dict[str, list[tuple[FrameKey, str]]] = {"images": [], "masks": []}
    unknown = []
    for file in files.names:
        if file.startswith("test/"):
            log.leave_out(file, "belongs to the authors' test split; no model may be tuned on it")
        elif match := NAME.fullmatch(file):
            key = FrameKey(match["subject"] or UNRECORDED_SUBJECT, int(match["number"]))
            by_kind[match["kind"].lower()].append((key, file))
        else:
            unknown.append(file)
    if not by_kind["images"]:
        remedy = "Set nerve.path in params.yaml to the folder, or its zip file, that holds images/ and masks/."
        raise SourceError(str(path), f"has no {FRAME_NAMES}", remedy)
    for file in unknown:
        leave_out_or_report(file, f"{FRAME_NAMES} nor the mask of such a frame", log)
    images, masks = (index_by_key(by_kind[kind], log) for kind in by_kind)
    for pair_of_files in pair_files(images, masks, str(path), log):
        if pair := log.attempt(partial(_read_pair, files, pair_of_files)):
            yield pair


def _read_pair(files: SourceFiles, pair_of_files: PairFiles) -> FrameMaskPair:
    pair = read_pair(files, pair_of_files, decode_labels)
    is_authors = hashlib.sha256(pair.frame_file).hexdigest() in authors_digests()
    return replace(pair, licence=LICENCE if is_authors else "")


def decode_labels(data: bytes, file: str) -> tuple[np.ndarray, bool]:
    """Return a mask file's labels, uint8 (height, width), and whether vessels are labelled.

    The labels are the grey values of a picture. They are the indices of a coloured palette whose index 0 is black. A
    mask of 0 and 255 labels nerves only. Raises SourceError for any other file.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=("PNG",))
        labels = np.asarray(image)
        palette = np.reshape(image.getpalette("RGB") or [], (-1, 3))
    except Exception as error:  # for a damaged file Pillow raises many classes
        reason = "is not a readable mask (not a complete PNG file)"
        raise SourceError(file, reason, "Copy it again, or remove the pair.") from error
    if image.mode == "P":
        labels = _resolve_palette(labels, palette, file)
    if labels.ndim == 2 and labels.dtype == np.uint8 and labels.any() and np.isin(labels, (0, 255)).all():
        return labels // 255 * NERVE, False
    if labels.ndim != 2 or labels.dtype != np.uint8 or labels.max() > VESSEL:
        reason = f"has other labels than 0, 1 and 2, or 0 and 255 (mode {image.mode}, maximum {labels.max()})"
        raise SourceError(file, reason, "Copy it again, or remove the pair.")
    return labels, True


def _resolve_palette(indices: np.ndarray, palette: np.ndarray, file: str) -> np.ndarray:
    """Return the grey values of a grey palette, else the indices, uint8 (height, width).

    palette: int (entries, 3), RGB. Raises SourceError if the indices do not count from a black background.
    """
    used = np.unique(indices)
    if used.max() >= len(palette):
        raise SourceError(file, "has an index without a colour in its palette", "Write the mask again as a grey PNG.")
    if (palette[used] == palette[used, :1]).all():
        return palette[:, 0].astype(np.uint8)[indices]
    if palette[0].any():
        colour = ", ".join(map(str, palette[0].tolist()))
        reason = f"has a palette whose index 0 is not black but ({colour}), so its labels are ambiguous"
        raise SourceError(file, reason, "Write the mask again as a grey PNG with the values 0, 1 and 2.")
    return indices
