"""What a net is trained on is what it will be served: the same functions, the same numbers."""

import json
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from service.card import Input, Normalisation
from service.frame import Frame
from service.tensor import to_tensor
from tests.frames import disc, png, tiff
from training import prepare, split
from training.parameters import InputSize
from training.sources.layout import FRAMES, NERVE, VESSEL, Faults, Pair, Row, write

ROOT = Path(__file__).parent.parent
TOP, BOTTOM, LEFT, RIGHT = 101, 199, 203, 398  # of the planted nerve
SIDES = ["train"] * 4 + ["validation"] * 2 + ["test"]


def grey(n: int) -> np.ndarray:
    """uint8 frame n, 420 x 580: each its own; the last, which is for the test, much brighter than all others."""
    return np.maximum(disc(420, 580, across=0.1 * n, down=0.5), 240 if n == len(SIDES) - 1 else 0)


def square() -> np.ndarray:
    labels = np.zeros((420, 580), np.uint8)
    labels[TOP:BOTTOM, LEFT:RIGHT] = NERVE
    labels[300:400, 100:150] = VESSEL
    return labels


def write_project(vessels: bool) -> list[Row]:
    """Frames of several types and depths, their split, and the candidates of the project's own params.yaml."""
    pairs = [
        Pair(tiff(grey(n)), ".tif", square(), str(n), 1, vessels=vessels)
        if n % 2
        else Pair(png(grey(n).astype(np.uint16) * 257), ".png", square(), str(n), 1, vessels=vessels)
        for n in range(len(SIDES))
    ]
    rows = write(pairs, FRAMES, "planted", Faults(False))
    split.SPLIT.parent.mkdir(parents=True)
    table = pd.DataFrame({"frame": [row.frame for row in rows], "split": SIDES})
    table.to_csv(split.SPLIT, index=False)
    shutil.copy(ROOT / "params.yaml", ".")
    return rows


@pytest.fixture
def project(tmp_path, monkeypatch) -> list[Row]:
    monkeypatch.chdir(tmp_path)
    return write_project(vessels=False)


def prepared(net: str, side: str) -> tuple[np.ndarray, np.ndarray]:
    folder = prepare.PREPARED / net / side
    return np.load(folder / "frames.npy"), np.load(folder / "masks.npy")


def read_input(net: str) -> Input:
    saved = json.loads((prepare.PREPARED / net / "input.json").read_text())
    return Input(saved["height"], saved["width"], Normalisation(**saved["normalisation"]))


@pytest.mark.parametrize("net", ["lecture", "light"])
def test_prepared_frames_are_what_the_service_makes_of_them(project, net):
    prepare.main(net)
    network = read_input(net)
    for side in ("train", "validation"):
        frames, masks = prepared(net, side)
        numbers = [n for n, of in enumerate(SIDES) if of == side]
        assert frames.shape == (len(numbers), network.height, network.width)
        assert frames.dtype == np.float32
        for frame, n in zip(frames, numbers, strict=True):
            served = to_tensor(Frame(grey(n)), network)[..., 0]
            assert np.array_equal(frame, served)
        assert masks.shape == (len(numbers), network.height, network.width, 1)


def test_the_held_out_test_frames_are_nowhere(project):
    prepare.main("light")
    assert sorted(path.name for path in (prepare.PREPARED / "light").iterdir()) == ["input.json", "train", "validation"]


def covered(start: int, stop: int, pixels: int, cells: int) -> np.ndarray:
    """The share of each of `cells` equal parts of 0..pixels that lies in start..stop: float (cells,)."""
    edges = np.linspace(0, pixels, cells + 1).clip(start, stop)
    return np.diff(edges) * cells / pixels


@pytest.mark.parametrize(("height", "width"), [(80, 112), (160, 224), (420, 580)])
def test_a_masks_pixel_is_nerve_where_the_nerve_covers_most_of_it(height, width):
    size = InputSize(height=height, width=width, normalisation="frame")
    stretched = prepare.stretch_labels(square(), size, classes=2)
    share = np.outer(covered(TOP, BOTTOM, 420, height), covered(LEFT, RIGHT, 580, width))
    clear = np.abs(share - 0.5) > 1e-3
    assert clear.mean() > 0.99
    assert np.array_equal(stretched[clear, 0], (share >= 0.5)[clear])
    assert stretched.dtype == np.uint8
    assert not (stretched[..., 0] & stretched[..., 1]).any()
    assert stretched[..., 1].mean() == pytest.approx(100 * 50 / (420 * 580), rel=0.1)


def test_masks_line_up_with_their_frames(tmp_path, monkeypatch):
    """A nerve drawn around the bright disc lies around it after both have been stretched."""
    monkeypatch.chdir(tmp_path)
    bright = disc(420, 580, across=0.3, down=0.6)
    labels = (bright > 150).astype(np.uint8)
    rows = write([Pair(tiff(bright), ".tif", labels, "1", 1)], FRAMES, "planted", Faults(False))
    size = InputSize(height=80, width=112, normalisation="frame")
    prepare.write_side(tmp_path / "side", rows, Input(80, 112, Normalisation("frame")), size)
    frame, mask = np.load("side/frames.npy")[0], np.load("side/masks.npy")[0, ..., 0]
    assert np.mean((frame > frame.mean() + frame.std()) == mask) > 0.99


def test_mean_and_deviation_are_those_of_the_training_frames_at_the_nets_resolution(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    greys = np.random.default_rng(0).integers(0, 256, (5, 160, 224), dtype=np.uint8)
    labels = np.ones((160, 224), np.uint8)
    pairs = [Pair(png(one), ".png", labels, str(n), 1) for n, one in enumerate(greys)]
    rows = write(pairs, FRAMES, "planted", Faults(False))
    halved = greys.reshape(5, 80, 2, 112, 2).mean(axis=(2, 4))
    found = prepare.mean_and_deviation(rows, InputSize(height=80, width=112, normalisation="dataset"))
    assert found.mean == pytest.approx(halved.mean(), abs=1e-3)
    assert found.deviation == pytest.approx(halved.std(), abs=1e-3)


def test_the_lectures_frames_are_centred_and_scaled_by_the_training_set_alone(project):
    prepare.main("lecture")
    train, _ = prepared("lecture", "train")
    assert train.mean(dtype=np.float64) == pytest.approx(0, abs=1e-3)
    assert train.std(dtype=np.float64) == pytest.approx(1, abs=1e-3)
    brightest = np.mean([grey(n).mean() for n in range(len(SIDES))])
    assert read_input("lecture").normalisation.mean < brightest - 10, "the test's bright frame has a part in it"


def test_vessels_are_a_second_channel_where_they_are_labelled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_project(vessels=True)
    prepare.main("light")
    _, masks = prepared("light", "train")
    assert masks.shape == (4, 160, 224, 2)
    assert masks[..., 1].any() and not (masks[..., 0] & masks[..., 1]).any()


def test_it_can_be_done_again(project):
    prepare.main("light")
    before = prepared("light", "train")
    prepare.main("light")
    assert all(np.array_equal(a, b) for a, b in zip(before, prepared("light", "train"), strict=True))


def test_memory_does_not_grow_with_the_number_of_frames(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    labels = np.ones((64, 64), np.uint8)
    rows = write([Pair(png(disc(64, 64)), ".png", labels, "1", 1)], FRAMES, "planted", Faults(False))
    size = InputSize(height=128, width=128, normalisation="frame")
    network = Input(128, 128, Normalisation("frame"))
    prepare.write_side(tmp_path / "first", rows, network, size)  # what is loaded once

    tracemalloc.start()
    prepare.write_side(tmp_path / "many", rows * 1000, network, size)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    written = sum(file.stat().st_size for file in (tmp_path / "many").iterdir())
    assert peak < written / 4, f"{peak / 1e6:.0f} MB held at once of {written / 1e6:.0f} MB"
