"""Sharded arrays: they read as one array, and their shuffle stays within a few shards."""

import numpy as np
import pytest

from training.data import sharded_array
from training.data.sharded_array import ShardedArray, shard_name, shuffle_rows


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(sharded_array, "SHARD_ROWS", 4)
    monkeypatch.setattr(sharded_array, "WINDOW_SHARDS", 2)


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(10, 3, 2)).astype(np.float32)


@pytest.fixture
def array(tmp_path, values) -> ShardedArray:
    for start in range(0, len(values), 4):
        np.save(tmp_path / shard_name(start), values[start : start + 4])
    return ShardedArray(tmp_path)


@pytest.mark.parametrize(
    "indices", [slice(None), slice(2, 9), slice(None, None, 3), np.array([9, 0, 4, 4]), np.arange(10) % 3 == 0]
)
def test_it_reads_as_one_array(array, values, indices):
    assert (array.shape, array.dtype, len(array)) == (values.shape, values.dtype, len(values))
    np.testing.assert_array_equal(array[indices], values[indices])


def test_a_folder_without_shards_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no shards"):
        ShardedArray(tmp_path)


def test_the_names_of_many_shards_sort_in_their_order():
    names = [shard_name(start) for start in range(0, 4 * 1200, 4)]
    assert names == sorted(names)


def test_few_shards_are_shuffled_like_an_array_in_memory():
    expected = np.random.default_rng(7).permutation(8)
    np.testing.assert_array_equal(shuffle_rows(8, np.random.default_rng(7)), expected)


def test_many_shards_are_shuffled_window_by_window():
    order = shuffle_rows(40, np.random.default_rng(1))
    np.testing.assert_array_equal(np.sort(order), np.arange(40))
    windows = [set(window) for window in order.reshape(-1, 8) // 4]
    assert all(len(window) == 2 for window in windows)
    assert set().union(*windows) == set(range(10))
    assert windows[0] != {0, 1}, "the shards are in random order too"
    assert not np.array_equal(order, shuffle_rows(40, np.random.default_rng(2)))


def test_a_short_last_shard_is_shuffled_too():
    np.testing.assert_array_equal(np.sort(shuffle_rows(42, np.random.default_rng(1))), np.arange(42))
