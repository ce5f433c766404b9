"""A frame to the network and back: one picture, one tensor, whatever the file; any size; never a NaN."""

import numpy as np
import pytest

from service.card import Input, Normalisation
from service.frame import Area, Frame, decode
from service.tensor import to_frame, to_tensor

BY_FRAME = Input(160, 224, Normalisation("frame"))
BY_DATASET = Input(160, 224, Normalisation("dataset", 90.0, 50.0))
SIZES = [(16, 16), (17, 333), (333, 17), (160, 224), (420, 580), (1023, 769)]


@pytest.mark.parametrize("network", [BY_FRAME, BY_DATASET], ids=["frame", "dataset"])
def test_one_picture_in_four_files_is_one_tensor(same_frame: dict[str, bytes], network: Input) -> None:
    tensors = {name: to_tensor(decode(data), network) for name, data in same_frame.items()}
    for name, tensor in tensors.items():
        assert tensor.tobytes() == tensors["8-bit PNG"].tobytes(), name


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_a_tensor_has_the_networks_size(speckle, height: int, width: int) -> None:
    tensor = to_tensor(Frame(speckle(0, height, width)), BY_FRAME)
    assert tensor.shape == (160, 224, 1)
    assert tensor.dtype == np.float32
    assert abs(tensor.mean()) < 1e-3
    assert abs(tensor.std() - 1) < 1e-3


@pytest.mark.parametrize("grey", [0, 7, 255])
@pytest.mark.parametrize("network", [BY_FRAME, BY_DATASET], ids=["frame", "dataset"])
def test_a_frame_of_one_grey_stays_finite(grey: int, network: Input) -> None:
    tensor = to_tensor(Frame(np.full((420, 580), grey, np.uint8)), network)
    assert np.isfinite(tensor).all()
    expected = 0 if network is BY_FRAME else (grey - 90) / 50
    assert np.allclose(tensor, expected, atol=0.05)  # what rounding leaves is no picture


def test_a_frame_of_the_networks_size_is_not_resampled(speckle) -> None:
    pixels = speckle(0, 160, 224)
    as_it_is = Input(160, 224, Normalisation("dataset", 0.0, 1.0))
    assert np.array_equal(to_tensor(Frame(pixels), as_it_is)[..., 0], pixels)


def test_shrinking_averages_every_pixel() -> None:
    pixels = np.full((64, 64), 40, np.uint8)
    pixels[::2, ::2] = 200  # nearest neighbours would see all of these, or none
    shrunk = to_tensor(Frame(pixels), Input(32, 32, Normalisation("dataset", 0.0, 1.0)))
    assert np.allclose(shrunk, 80)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_a_map_comes_back_at_the_frames_size(height: int, width: int) -> None:
    probability = np.random.default_rng(0).random((160, 224), np.float32)
    back = to_frame(probability, Frame(np.full((height, width), 9, np.uint8)))
    assert back.shape == (height, width)
    assert back.dtype == np.float32
    assert 0 <= back.min() <= back.max() <= 1


def test_there_and_back_a_spot_stays_in_its_place() -> None:
    pixels = np.zeros((420, 580), np.uint8)
    pixels[40:380, 100:] = 20  # lit
    pixels[100:120, 400:430] = 255
    frame = Frame(pixels)
    tensor = to_tensor(frame, Input(160, 224, Normalisation("dataset", 0.0, 255.0)))
    rows, columns = np.nonzero(to_frame(tensor[..., 0], frame) > 0.5)
    assert abs(rows.mean() - 109.5) < 1
    assert abs(columns.mean() - 414.5) < 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_black_margins_are_not_looked_at(speckle, dtype: type) -> None:
    scan = speckle(0, 300, 400).astype(dtype) * (257 if dtype == np.uint16 else 1)
    frame = Frame(np.pad(scan, ((70, 50), (0, 134))))
    assert frame.lit == Area(0, 70, 400, 300)
    assert np.array_equal(to_tensor(frame, BY_FRAME), to_tensor(Frame(scan), BY_FRAME))
    back = to_frame(np.ones((160, 224), np.float32), frame)
    assert back[70:370, :400].all()
    assert back.sum() == 300 * 400


def test_a_black_frame_is_lit_as_a_whole() -> None:
    assert Frame(np.ones((30, 40), np.uint8)).lit == Area(0, 0, 40, 30)
