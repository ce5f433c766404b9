"""Find nearly identical frames whose masks disagree.

Several entries of the 2016 Kaggle competition "Ultrasound Nerve Segmentation" found them this way.
"""

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from operator import attrgetter

import numpy as np
from rich.progress import track

from training.data.manifest import ManifestRow, read_frame, read_nerve_mask

BLOCK_PX = 20
BINS = 16
MAX_DISTANCE = 0.008  # cosine distance of block histograms; nearer frames are nearly identical
MASKS_IN_MEMORY = 1000  # at most; a mask of 580x420 pixels takes 0.24 MB
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


def nearly_identical_pairs(histograms: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield the index pairs of nearly identical frames, the smaller index first.

    histograms: float32 (N, D), of `block_histogram`.
    """
    from sklearn.metrics import pairwise_distances_chunked

    def find_near(distances: np.ndarray, _: int) -> list[np.ndarray]:
        return [np.flatnonzero(row < MAX_DISTANCE) for row in distances]

    near = itertools.chain.from_iterable(pairwise_distances_chunked(histograms, reduce_func=find_near, metric="cosine"))
    for first, others in enumerate(near):
        yield from ((first, int(second)) for second in others if second > first)


def contradictory_frames(rows: list[ManifestRow]) -> dict[str, set[str]]:
    """Return the frames that contradict other frames of the same subject and size, each with those frames.

    Frames contradict each other if they are nearly identical and their nerve masks disagree. Two empty masks agree.
    """
    contradictions: dict[str, set[str]] = {}
    comparable = attrgetter("subject", "height", "width")
    read_mask = lru_cache(MASKS_IN_MEMORY)(read_nerve_mask)
    with ThreadPoolExecutor() as threads:
        for _, group in itertools.groupby(track(sorted(rows, key=comparable), "comparing frames"), key=comparable):
            group_rows = list(group)
            histograms = threads.map(lambda row: block_histogram(read_frame(row).pixels), group_rows)
            for pair in nearly_identical_pairs(np.stack(list(histograms))):
                first, second = (group_rows[index] for index in pair)
                if _disagree(read_mask(first), read_mask(second)):
                    contradictions.setdefault(first.frame, set()).add(second.frame)
                    contradictions.setdefault(second.frame, set()).add(first.frame)
    return contradictions


def _disagree(first: np.ndarray, second: np.ndarray) -> bool:
    """Return whether the Dice of two nerve masks is below MIN_DICE. That of two empty masks is not."""
    pixels = np.count_nonzero(first) + np.count_nonzero(second)
    return bool(2 * np.count_nonzero(first & second) < MIN_DICE * pixels)
