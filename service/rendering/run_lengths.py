"""Encode a mask as run-lengths, in the format of Kaggle's Ultrasound Nerve Segmentation."""

import cv2
import numpy as np


def encode_run_lengths(mask: np.ndarray) -> str:
    """Return pairs of start and length, separated by spaces. Pixels are counted from 1, down each column in turn.

    mask: uint8 (height, width), 0 or 255. An empty mask gives an empty string.
    """
    starts, ends = find_runs(mask)
    return " ".join(map(str, np.column_stack([starts + 1, ends - starts]).ravel().tolist()))


def find_runs(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the starts and the ends (exclusive) of all runs of nerve, each int (N,).

    mask: uint8 (height, width), 0 or 255. Pixels are counted from 0, down each column in turn. A run may go on from the
    end of one column to the start of the next.
    """
    left, _, width, _ = cv2.boundingRect(mask)  # no run starts or ends outside
    pixels = np.concatenate([[False], mask[:, left : left + width].T.ravel() > 0, [False]])
    edges = np.flatnonzero(pixels[1:] != pixels[:-1]) + left * mask.shape[0]
    return edges[::2], edges[1::2]
