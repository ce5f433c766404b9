"""An array in shards: .npy files, each with SHARD_ROWS rows but the last."""

import os
import weakref
from pathlib import Path

import numpy as np

from service.resources.process_limits import raise_open_file_limit

SHARD_ROWS = 1024
# A window of the shuffle. Its frames at 160x224 pixels, with two masks each, take 1.8 GB.
WINDOW_SHARDS = 8


class ShardedArray:
    """The shards of a folder, read as one array (N, ...). `array[indices]` reads only the rows of `indices`.

    Each row is one read. Memory-mapped shards would make the system read megabytes around each row. Several threads may
    read. Each shard keeps a file open. Raises FileNotFoundError for a folder without shards.
    """

    def __init__(self, folder: Path):
        files = sorted(folder.glob("*.npy"))
        if not files:
            raise FileNotFoundError(f"{folder} has no shards (.npy)")
        raise_open_file_limit()
        arrays = [np.load(file, mmap_mode="r") for file in files]
        self.dtype = arrays[0].dtype
        self.shape = (sum(map(len, arrays)), *arrays[0].shape[1:])
        self._offsets = [array.offset for array in arrays]  # bytes before the first row
        self._descriptors = [os.open(file, os.O_RDONLY) for file in files]
        weakref.finalize(self, _close, self._descriptors)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, indices: slice | np.ndarray) -> np.ndarray:
        """Return the rows, (len(indices), ...), in memory. Raises OSError for a shard that was cut short."""
        rows = np.arange(len(self))[indices]
        array = np.empty((len(rows), *self.shape[1:]), self.dtype)
        for position, row in enumerate(rows):
            shard, place = divmod(int(row), SHARD_ROWS)
            offset = self._offsets[shard] + place * array[position].nbytes
            if os.preadv(self._descriptors[shard], [array[position]], offset) != array[position].nbytes:
                raise OSError(f"shard {shard} ends before row {place}")
        return array


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def shard_name(start: int) -> str:
    """Return the file name of the shard that begins with row `start`."""
    return f"{start // SHARD_ROWS:05}.npy"


def shuffle_rows(count: int, rng: np.random.Generator) -> np.ndarray:
    """Return a random order of the rows of a sharded array: int (count,).

    Up to WINDOW_SHARDS shards: any order. With more shards, the shards are in random order, and rows change places only
    with rows of the same WINDOW_SHARDS shards: so a computer with less memory than the array reads each shard once.
    """
    if count <= SHARD_ROWS * WINDOW_SHARDS:
        return rng.permutation(count)
    rows = np.arange(count)
    shards = [rows[start : start + SHARD_ROWS] for start in range(0, count, SHARD_ROWS)]
    order = rng.permutation(len(shards))
    windows = [order[start : start + WINDOW_SHARDS] for start in range(0, len(order), WINDOW_SHARDS)]
    return np.concatenate([rng.permutation(np.concatenate([shards[shard] for shard in window])) for window in windows])
