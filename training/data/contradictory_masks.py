"""Find nearly identical frames whose masks disagree.

Several entries of the 2016 Kaggle competition "Ultrasound Nerve Segmentation" found them this way.
"""

import itertools
from concurrent.futures import ThreadPoolExecutor
from operator import attrgetter

import numpy as np
from rich.progress import track

from training.data.manifest import ManifestRow, read_frame, read_nerve_mask

BLOCK_PX = 20
BINS = 16
MAX_DISTANCE = 0.008  # cosine distance of block histograms; nearer frames are nearly identical
MIN_DICE = 0.2  # of the masks of nearly identical frames; masks with a lower Dice contradict each other


def block_histogram(grey: np.ndarray) -> np.ndarray:
    """Return the grey-value histograms of a frame's 20x20-pixel blocks: float32 (blocks * 16,).

    Each block's histogram sums to 1. Blocks that reach over the frame's edge are left out.

    grey: uint8 or uint16 (height, width).
    """
    grey_levels = 256 if grey.dtype == np.uint8 else 65536
    rows, columns = grey.shape[0] // BLOCK_PX, grey.shape[1] // BLOCK_PX
    bins = grey[: rows * BLOCK_PX, : columns * BLOCK_PX] // (grey_levels // BINS)
    block = np.arange(rows * columns).reshape(rows, columns).repeat(BLOCK_PX, axis=0).repeat(BLOCK_PX, axis=1)
    counts = np.bincount((block * BINS + bins).ravel(), minlength=rows * columns * BINS)
    return (counts / BLOCK_PX**2).astype(np.float32)


def contradictory_pairs(histograms: np.ndarray, nerves: np.ndarray) -> list[tuple[int, int]]:
    """Return the index pairs of nearly identical frames whose masks disagree. Two empty masks agree.

    histograms: float32 (N, D), of `block_histogram`.
    nerves: bool (N, pixels), the nerve masks.
    """
    from sklearn.metrics.pairwise import cosine_distances

    distance = cosine_distances(histograms)
    nearly_identical = np.argwhere(np.triu(distance < MAX_DISTANCE, k=1))
    area = nerves.sum(axis=1)
    pairs = []
    for first, second in nearly_identical:
        pixels = area[first] + area[second]
        if pixels and 2 * np.count_nonzero(nerves[first] & nerves[second]) / pixels < MIN_DICE:
            pairs.append((int(first), int(second)))
    return pairs


def contradictory_frames(rows: list[ManifestRow]) -> dict[str, set[str]]:
    """Return the frames that contradict other frames of the same subject and size, each with those frames."""
    contradictions: dict[str, set[str]] = {}
    comparable = attrgetter("subject", "height", "width")
    with ThreadPoolExecutor() as threads:
        for _, group in itertools.groupby(track(sorted(rows, key=comparable), "comparing frames"), key=comparable):
            group_rows = list(group)
            histograms, nerves = zip(*threads.map(_histogram_and_nerve, group_rows), strict=True)
            for pair in contradictory_pairs(np.stack(histograms), np.stack(nerves)):
                first, second = (group_rows[index].frame for index in pair)
                contradictions.setdefault(first, set()).add(second)
                contradictions.setdefault(second, set()).add(first)
    return contradictions


def _histogram_and_nerve(row: ManifestRow) -> tuple[np.ndarray, np.ndarray]:
    """Return a frame's block histogram, float32 (D,), and its nerve mask, bool (pixels,)."""
    return block_histogram(read_frame(row).pixels), read_nerve_mask(row).ravel()
