"""Find frames with a near-duplicate, and measure how much cross-validation folds leak.

Where a source records no subjects, frames of one scan can be in different splits. The score of a frame is then too
high if the network was trained on its near-duplicate.
"""

import cv2
import numpy as np
from rich.progress import track

from training.data.manifest import ManifestRow, read_frame

THUMBNAIL_WIDTH_PX, THUMBNAIL_HEIGHT_PX = 64, 48
MIN_CORRELATION = 0.8  # of thumbnails; frames with a higher correlation are near-duplicates
RANDOM_FOLDS_SEED = 1


def mark_near_duplicates(rows: list[ManifestRow], others: list[ManifestRow]) -> np.ndarray:
    """Return whether each of `rows` has a near-duplicate among `others`: bool (N,)."""
    return (compute_thumbnails(rows) @ compute_thumbnails(others).T).max(axis=1) > MIN_CORRELATION


def measure_leakage(thumbnails: np.ndarray, folds: np.ndarray) -> dict[str, float]:
    """Return how much cross-validation folds leak, and how much random folds of the same sizes would.

    The keys of the result:
      near_duplicates       the share of frames with a near-duplicate outside their fold
      nearest_correlation   the median over frames of the highest correlation with a frame outside their fold
      *_random_folds        the same for a random assignment of single frames, as some papers use

    thumbnails: of `compute_thumbnails`, float32 (N, pixels).
    folds: int (N,), the fold in which each frame is held out.
    """
    correlation = thumbnails @ thumbnails.T
    random_folds = np.random.default_rng(RANDOM_FOLDS_SEED).permutation(folds)
    result = {}
    for suffix, assignment in (("", folds), ("_random_folds", random_folds)):
        same_fold = assignment[:, np.newaxis] == assignment
        nearest = np.where(same_fold, -1.0, correlation).max(axis=1)
        result[f"near_duplicates{suffix}"] = round(float((nearest > MIN_CORRELATION).mean()), 4)
        result[f"nearest_correlation{suffix}"] = round(float(np.median(nearest)), 4)
    return result


def compute_thumbnails(rows: list[ManifestRow]) -> np.ndarray:
    """Return each frame's content box as a thumbnail of mean 0 and Euclidean norm 1: float32 (N, pixels).

    The dot product of two thumbnails is their correlation.
    """
    return np.stack([_thumbnail(row) for row in track(rows, "comparing frames")])


def _thumbnail(row: ManifestRow) -> np.ndarray:
    frame = read_frame(row)
    content = frame.content_box.crop(frame.pixels)
    small = cv2.resize(content, (THUMBNAIL_WIDTH_PX, THUMBNAIL_HEIGHT_PX), interpolation=cv2.INTER_AREA)
    values = small.astype(np.float32).ravel()
    values -= values.mean()
    return values / max(float(np.linalg.norm(values)), 1e-6)
