"""Decode run-length encoded masks of COCO files."""

from typing import Any

import numpy as np

MAX_BITS = 60  # of a run-length


def decode_run_lengths(counts: Any, height: int, width: int) -> np.ndarray:
    """Return the mask of COCO run-lengths: bool (height, width).

    counts: the lengths of the runs down each column in turn, of background first. A list of integers, or the text of
        pycocotools.
    height, width: of the mask, in pixels.

    Raises ValueError, or TypeError for values of another type.
    """
    lengths = decompress_counts(counts) if isinstance(counts, str) else counts
    if any(length < 0 for length in lengths) or sum(lengths) != height * width:
        raise ValueError(f"the run-lengths do not add up to {width}x{height} pixels")
    is_inside = np.arange(len(lengths)) % 2 == 1
    return np.repeat(is_inside, lengths).reshape(width, height).T


def decompress_counts(text: str) -> list[int]:
    """Return the run-lengths in the text of pycocotools. Raises ValueError for another text.

    The format is that of `rleFrString` in common/maskApi.c of github.com/cocodataset/cocoapi: a number is a run of
    characters from code 48. Each holds five bits, the lowest first. Bit 32 says that more follow, bit 16 of the last
    one is the sign. From the fourth number on, each is the difference to the number two places before.
    """
    counts: list[int] = []
    number = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise ValueError(f"the run-lengths have the character {character!r}")
        number |= (bits & 31) << shift
        shift += 5
        if shift > MAX_BITS:
            raise ValueError("the run-lengths have a number that is too large")
        if bits & 32:
            continue
        if bits & 16:
            number -= 1 << shift
        counts.append(number + counts[-2] if len(counts) > 2 else number)
        number = shift = 0
    if shift:
        raise ValueError("the run-lengths end within a number")
    return counts
