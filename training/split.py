"""Stage split: training, validation and test, never one subject on two sides.

Writes data/split/split.csv (frame, group, split, reason): every labelled frame of the manifest once. Its split is
train, validation, test, or left_out with the reason.
"""

import itertools
from concurrent.futures import ThreadPoolExecutor
from operator import attrgetter
from pathlib import Path

import numpy as np
import pandas as pd
from rich.progress import track

from training import parameters
from training.sources.layout import FRAMES, NERVE, Row, read_frame, read_labels, read_manifest

SPLIT = Path("data/split/split.csv")
BLOCK_PX = 20  # of the histograms that tell frames of one subject apart
BINS = 16
NEAR = 0.008  # cosine distance of two frames' histograms below which they are nearly the same
CONTRARY = 0.2  # Dice of their masks below which they contradict each other


def groups(subjects: list[str], blocks: int) -> np.ndarray:
    """The group of each frame, int (N,), which must not be divided: its subject; where all frames have one subject
    (none is recorded), one of `blocks` contiguous runs of frames, which stand in the order of their numbers."""
    if len(set(subjects)) > 1:
        return pd.factorize(np.array(subjects))[0]
    return np.arange(len(subjects)) * blocks // len(subjects)


def divide(group: np.ndarray, validation: float, test: float, seed: int) -> np.ndarray:
    """ "train", "validation" or "test" for each frame, str (N,); whole groups only, shares in groups.

    Raises ParameterError where there are too few groups for three sides.
    """
    from sklearn.model_selection import GroupShuffleSplit

    side = np.full(len(group), "train", dtype="<U10")
    total = len(np.unique(group))
    held_out = {"test": max(1, round(test * total)), "validation": max(1, round(validation * total))}
    if sum(held_out.values()) >= total:
        raise parameters.ParameterError(
            f"params.yaml: nerve.split: {total} subjects (or blocks) cannot be divided into validation {validation} "
            f"and test {test}"
        )
    for name, count in held_out.items():
        rest = np.flatnonzero(side == "train")
        _, chosen = next(GroupShuffleSplit(1, test_size=count, random_state=seed).split(rest, groups=group[rest]))
        side[rest[chosen]] = name
    return side


def block_histogram(grey: np.ndarray) -> np.ndarray:
    """Histograms of a frame's 20x20-pixel blocks, one after another: float32 (blocks * 16,), each block's sums to 1.

    grey: uint8 or uint16 (height, width). Blocks that the frame's edge would cut are left out.
    """
    greys = 256 if grey.dtype == np.uint8 else 65536
    rows, columns = grey.shape[0] // BLOCK_PX, grey.shape[1] // BLOCK_PX
    bins = grey[: rows * BLOCK_PX, : columns * BLOCK_PX] // (greys // BINS)
    block = np.arange(rows * columns).reshape(rows, columns).repeat(BLOCK_PX, axis=0).repeat(BLOCK_PX, axis=1)
    counted = np.bincount((block * BINS + bins).ravel(), minlength=rows * columns * BINS)
    return (counted / BLOCK_PX**2).astype(np.float32)


def contradictions(histograms: np.ndarray, nerves: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of frames of one subject that look nearly the same but whose masks do not agree.

    histograms: float32 (N, D). nerves: bool (N, pixels). Two empty masks agree. The method of several entries of
    the 2016 Kaggle competition.
    """
    from sklearn.metrics.pairwise import cosine_distances

    distance = cosine_distances(histograms)
    near = np.argwhere(np.triu(distance < NEAR, k=1))
    area = nerves.sum(axis=1)
    pairs = []
    for a, b in near:
        pixels = area[a] + area[b]
        if pixels and 2 * np.count_nonzero(nerves[a] & nerves[b]) / pixels < CONTRARY:
            pairs.append((int(a), int(b)))
    return pairs


def contradictory_frames(rows: list[Row]) -> dict[str, set[str]]:
    """Frames that contradict others of the same subject and size, each with those others."""
    contrary: dict[str, set[str]] = {}
    alike = attrgetter("subject", "height", "width")
    with ThreadPoolExecutor() as threads:
        for _, group in itertools.groupby(track(sorted(rows, key=alike), "comparing frames"), key=alike):
            of_subject = list(group)
            histograms, nerves = zip(*threads.map(_looks, of_subject), strict=True)
            for a, b in contradictions(np.stack(histograms), np.stack(nerves)):
                for one, other in ((a, b), (b, a)):
                    contrary.setdefault(of_subject[one].frame, set()).add(of_subject[other].frame)
    return contrary


def _looks(row: Row) -> tuple[np.ndarray, np.ndarray]:
    """A frame's block histogram, float32 (D,), and where its nerve is, bool (pixels,)."""
    return block_histogram(read_frame(FRAMES, row).pixels), read_labels(FRAMES, row).ravel() == NERVE


def rows_of(split: str) -> list[Row]:
    """The manifest's rows of one split, in the manifest's order: what every later stage starts from."""
    table = pd.read_csv(SPLIT)
    chosen = set(table.loc[table["split"] == split, "frame"])
    return [row for row in read_manifest(FRAMES) if row.frame in chosen]


def without_contradictions(rows: list[Row]) -> list[Row]:
    """Those of `rows` that contradict no other frame, on whichever side it stands."""
    table = pd.read_csv(SPLIT, keep_default_na=False)
    spoilt = set(table.loc[table["reason"] != "", "frame"])
    return [row for row in rows if row.frame not in spoilt]


def _reason(others: set[str]) -> str:
    return f"nearly the same as {', '.join(sorted(others))}, with another mask" if others else ""


def main() -> None:
    rows = [row for row in read_manifest(FRAMES) if row.mask]
    chosen = parameters.nerve().split
    group = groups([row.subject for row in rows], chosen.blocks)
    sides = divide(group, chosen.validation, chosen.test, chosen.seed)
    contrary = contradictory_frames(rows)

    table = pd.DataFrame({"frame": [row.frame for row in rows], "group": group, "split": sides})
    table["reason"] = [_reason(contrary.get(row.frame, set())) for row in rows]
    # The held-out sides stay as they were recorded: leaving out what is hard there would flatter. Nor do their masks
    # tell which training frames to leave out.
    trained = set(table.loc[table["split"] == "train", "frame"])
    spoilt = [bool(frame in trained and contrary.get(frame, set()) & trained) for frame in table["frame"]]
    table.loc[spoilt, "split"] = "left_out"
    SPLIT.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(SPLIT, index=False)
    counts = table["split"].value_counts()
    print(", ".join(f"{name} {count}" for name, count in counts.items()), f"({table['group'].nunique()} groups)")


if __name__ == "__main__":
    main()
