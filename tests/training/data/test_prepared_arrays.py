"""Prepared arrays: a network is trained on the same numbers that the service computes for a frame."""

import json
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from service.decoding.frame import Frame
from service.inference.preprocessing import preprocess
from service.model.card import NetworkInput, Normalization
from tests.frames import disc, png, tiff
from training.data import prepare, prepared_arrays, sharded_array
from training.data.frame_mask_pair import NERVE, VESSEL, FrameMaskPair
from training.data.manifest import ManifestRow, write_pairs
from training.data.prepared_arrays import dataset_normalization, resize_labels, write_arrays
from training.data.source_errors import IngestLog
from training.workspace import paths
from training.workspace.nerve_parameters import InputParameters
from training.workspace.output_checksums import CHECKSUMS, output_folder

ROOT = Path(__file__).parents[3]
TOP, BOTTOM, LEFT, RIGHT = 101, 199, 203, 398  # of the nerve
SPLITS = ["train"] * 4 + ["validation"] * 2 + ["test"]


def grey(n: int) -> np.ndarray:
    """Return frame n, uint8 (420, 580): all are different; the test frame is much brighter than the others."""
    return np.maximum(disc(420, 580, across=0.1 * n, down=0.5), 240 if n == len(SPLITS) - 1 else 0)


def nerve_and_vessel() -> np.ndarray:
    labels = np.zeros((420, 580), np.uint8)
    labels[TOP:BOTTOM, LEFT:RIGHT] = NERVE
    labels[300:400, 100:150] = VESSEL
    return labels


def write_project(vessels: bool) -> list[ManifestRow]:
    """Write frames of several file types and bit depths, their split, and this project's params.yaml."""
    pairs = [
        FrameMaskPair(tiff(grey(n)), ".tif", nerve_and_vessel(), str(n), 1, vessels=vessels)
        if n % 2
        else FrameMaskPair(png(grey(n).astype(np.uint16) * 257), ".png", nerve_and_vessel(), str(n), 1, vessels=vessels)
        for n in range(len(SPLITS))
    ]
    with output_folder(paths.FRAMES) as folder:
        rows = write_pairs(pairs, folder, "synthetic", IngestLog(False))
    table = pd.DataFrame({"frame": [row.frame for row in rows], "split": SPLITS})
    with output_folder(paths.SPLIT) as folder:
        table.to_csv(folder / paths.SPLIT_TABLE.name, index=False)
    shutil.copy(ROOT / "params.yaml", ".")
    return rows


@pytest.fixture
def project(tmp_path, monkeypatch) -> list[ManifestRow]:
    monkeypatch.chdir(tmp_path)
    return write_project(vessels=False)


def read_arrays(candidate: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    frames, masks = prepared_arrays.read_arrays(paths.PREPARED / candidate / split)
    return frames[:], masks[:]


def read_input(candidate: str) -> NetworkInput:
    saved = json.loads((paths.PREPARED / candidate / "input.json").read_text())
    return NetworkInput(saved["height"], saved["width"], Normalization(**saved["normalization"]))


@pytest.mark.parametrize("candidate", ["lecture", "light"])
def test_prepared_frames_equal_the_services_preprocessing(project, candidate):
    prepare.main(candidate)
    network = read_input(candidate)
    for split in ("train", "validation"):
        frames, masks = read_arrays(candidate, split)
        numbers = [n for n, name in enumerate(SPLITS) if name == split]
        assert frames.shape == (len(numbers), network.height, network.width)
        assert frames.dtype == np.float32
        for frame, n in zip(frames, numbers, strict=True):
            assert np.array_equal(frame, preprocess(Frame(grey(n)), network)[..., 0])
        assert masks.shape == (len(numbers), network.height, network.width, 1)


def test_test_frames_are_not_prepared(project):
    prepare.main("light")
    names = sorted(path.name for path in (paths.PREPARED / "light").iterdir())
    assert names == ["input.json", CHECKSUMS, "train", "validation"]


def coverage(start: int, stop: int, pixels: int, cells: int) -> np.ndarray:
    """Return which share of each of `cells` equal parts of 0..pixels is in start..stop: float (cells,)."""
    edges = np.linspace(0, pixels, cells + 1).clip(start, stop)
    return np.diff(edges) * cells / pixels


@pytest.mark.parametrize(("height", "width"), [(80, 112), (160, 224), (420, 580)])
def test_a_mask_pixel_is_nerve_where_the_nerve_covers_at_least_half_of_it(height, width):
    network_input = NetworkInput(height, width, Normalization("frame"))
    masks = resize_labels(nerve_and_vessel(), network_input, classes=2)
    share = np.outer(coverage(TOP, BOTTOM, 420, height), coverage(LEFT, RIGHT, 580, width))
    clear = np.abs(share - 0.5) > 1e-3
    assert clear.mean() > 0.99
    assert np.array_equal(masks[clear, 0], (share >= 0.5)[clear])
    assert masks.dtype == np.uint8
    assert not (masks[..., 0] & masks[..., 1]).any()
    assert masks[..., 1].mean() == pytest.approx(100 * 50 / (420 * 580), rel=0.1)


def test_masks_are_aligned_with_their_frames(tmp_path, monkeypatch):
    """The mask of the bright disc matches the disc after both are resized."""
    monkeypatch.chdir(tmp_path)
    bright = disc(420, 580, across=0.3, down=0.6)
    labels = (bright > 150).astype(np.uint8)
    pairs = [FrameMaskPair(tiff(bright), ".tif", labels, "1", 1)]
    rows = write_pairs(pairs, paths.FRAMES, "synthetic", IngestLog(False))
    write_arrays(tmp_path / "split", rows, NetworkInput(80, 112, Normalization("frame")))
    (frame,), (mask,) = (array[:] for array in prepared_arrays.read_arrays(Path("split")))
    assert np.mean((frame > frame.mean() + frame.std()) == mask[..., 0]) > 0.99


def test_the_dataset_normalization_is_computed_at_the_networks_resolution(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    greys = np.random.default_rng(0).integers(0, 256, (5, 160, 224), dtype=np.uint8)
    labels = np.ones((160, 224), np.uint8)
    pairs = [FrameMaskPair(png(pixels), ".png", labels, str(n), 1) for n, pixels in enumerate(greys)]
    rows = write_pairs(pairs, paths.FRAMES, "synthetic", IngestLog(False))
    halved = greys.reshape(5, 80, 2, 112, 2).mean(axis=(2, 4))
    normalization = dataset_normalization(rows, InputParameters(height=80, width=112, normalization="dataset"))
    assert normalization.mean == pytest.approx(halved.mean(), abs=1e-3)
    assert normalization.std == pytest.approx(halved.std(), abs=1e-3)


def test_only_training_frames_determine_the_dataset_normalization(project):
    prepare.main("lecture")
    train, _ = read_arrays("lecture", "train")
    assert train.mean(dtype=np.float64) == pytest.approx(0, abs=1e-3)
    assert train.std(dtype=np.float64) == pytest.approx(1, abs=1e-3)
    mean_of_all_frames = np.mean([grey(n).mean() for n in range(len(SPLITS))])
    assert read_input("lecture").normalization.mean < mean_of_all_frames - 10, "the bright test frame counts too"


def test_labelled_vessels_are_a_second_channel(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_project(vessels=True)
    prepare.main("light")
    _, masks = read_arrays("light", "train")
    assert masks.shape == (4, 160, 224, 2)
    assert masks[..., 1].any() and not (masks[..., 0] & masks[..., 1]).any()


def test_the_stage_can_run_again(project):
    prepare.main("light")
    before = read_arrays("light", "train")
    prepare.main("light")
    assert all(np.array_equal(a, b) for a, b in zip(before, read_arrays("light", "train"), strict=True))


def test_frames_of_several_shards_are_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for module in (prepared_arrays, sharded_array):
        monkeypatch.setattr(module, "SHARD_ROWS", 3)
    labels = nerve_and_vessel()
    pairs = [FrameMaskPair(png(grey(n)), ".png", labels * (n % 2), str(n), 1) for n in range(len(SPLITS))]
    rows = write_pairs(pairs, paths.FRAMES, "synthetic", IngestLog(False))
    network_input = NetworkInput(80, 112, Normalization("frame"))
    write_arrays(tmp_path / "split", rows, network_input)
    assert [path.name for path in sorted((tmp_path / "split/frames").iterdir())] == [f"0000{n}.npy" for n in range(3)]
    arrays = prepared_arrays.read_arrays(tmp_path / "split")
    expected = [preprocess(Frame(grey(n)), network_input)[..., 0] for n in range(len(SPLITS))]
    np.testing.assert_array_equal(arrays.frames[:], expected)
    assert prepared_arrays.frames_with_nerve(arrays).tolist() == [bool(n % 2) for n in range(len(SPLITS))]


def test_memory_does_not_grow_with_the_number_of_frames(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    labels = np.ones((64, 64), np.uint8)
    pairs = [FrameMaskPair(png(disc(64, 64)), ".png", labels, "1", 1)]
    rows = write_pairs(pairs, paths.FRAMES, "synthetic", IngestLog(False))
    network_input = NetworkInput(128, 128, Normalization("frame"))
    write_arrays(tmp_path / "first", rows, network_input)  # so that imports and caches do not count

    tracemalloc.start()
    write_arrays(tmp_path / "many", rows * 500, network_input)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    size_bytes = sum(file.stat().st_size for file in (tmp_path / "many").rglob("*.npy"))
    assert peak < size_bytes / 4, f"{peak / 1e6:.0f} MB in memory for {size_bytes / 1e6:.0f} MB of arrays"
