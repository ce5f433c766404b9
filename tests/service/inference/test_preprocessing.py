"""Preprocessing: a frame to the network's input, and its output back to the frame, for any file type and size."""

import numpy as np
import pytest

from service.decoding.cropping import Box
from service.decoding.frame import Frame
from service.decoding.image_file import decode_image
from service.inference.preprocessing import preprocess, resample_to_frame
from service.model.card import NetworkInput, Normalization

BY_FRAME = NetworkInput(160, 224, Normalization("frame"))
BY_DATASET = NetworkInput(160, 224, Normalization("dataset", 90.0, 50.0))
SIZES = [(16, 16), (17, 333), (333, 17), (160, 224), (420, 580), (1023, 769)]


@pytest.mark.parametrize("card_input", [BY_FRAME, BY_DATASET], ids=["frame", "dataset"])
def test_the_same_picture_in_four_files_gives_the_same_input(
    same_frame: dict[str, bytes], card_input: NetworkInput
) -> None:
    arrays = {name: preprocess(decode_image(data), card_input) for name, data in same_frame.items()}
    for name, array in arrays.items():
        assert array.tobytes() == arrays["8-bit PNG"].tobytes(), name


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_input_has_the_networks_size_and_is_normalised(speckle, height: int, width: int) -> None:
    array = preprocess(Frame(speckle(0, height, width)), BY_FRAME)
    assert array.shape == (160, 224, 1)
    assert array.dtype == np.float32
    assert abs(array.mean()) < 1e-3
    assert abs(array.std() - 1) < 1e-3


@pytest.mark.parametrize("grey", [0, 7, 255])
@pytest.mark.parametrize("card_input", [BY_FRAME, BY_DATASET], ids=["frame", "dataset"])
def test_a_frame_of_one_grey_value_stays_finite(grey: int, card_input: NetworkInput) -> None:
    array = preprocess(Frame(np.full((420, 580), grey, np.uint8)), card_input)
    assert np.isfinite(array).all()
    expected = 0 if card_input is BY_FRAME else (grey - 90) / 50
    assert np.allclose(array, expected, atol=0.05)  # rounding errors are not amplified to a picture


def test_a_frame_of_the_networks_size_is_not_resampled(speckle) -> None:
    pixels = speckle(0, 160, 224)
    unnormalised = NetworkInput(160, 224, Normalization("dataset", 0.0, 1.0))
    assert np.array_equal(preprocess(Frame(pixels), unnormalised)[..., 0], pixels)


def test_shrinking_averages_every_pixel() -> None:
    pixels = np.full((64, 64), 40, np.uint8)
    pixels[::2, ::2] = 200  # nearest-neighbour resampling would take all of these, or none
    shrunk = preprocess(Frame(pixels), NetworkInput(32, 32, Normalization("dataset", 0.0, 1.0)))
    assert np.allclose(shrunk, 80)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_output_is_resampled_to_the_frames_size(height: int, width: int) -> None:
    probability = np.random.default_rng(0).random((160, 224), np.float32)
    resampled = resample_to_frame(probability, Frame(np.full((height, width), 9, np.uint8)))
    assert resampled.shape == (height, width)
    assert resampled.dtype == np.float32
    assert 0 <= resampled.min() <= resampled.max() <= 1


def test_a_spot_keeps_its_place_through_preprocessing_and_back() -> None:
    pixels = np.zeros((420, 580), np.uint8)
    pixels[40:380, 100:] = 20  # the rest is a black margin
    pixels[100:120, 400:430] = 255
    frame = Frame(pixels)
    array = preprocess(frame, NetworkInput(160, 224, Normalization("dataset", 0.0, 255.0)))
    rows, columns = np.nonzero(resample_to_frame(array[..., 0], frame) > 0.5)
    assert abs(rows.mean() - 109.5) < 1
    assert abs(columns.mean() - 414.5) < 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_black_margins_are_cropped_and_get_probability_zero(speckle, dtype: type) -> None:
    scan = speckle(0, 300, 400).astype(dtype) * (257 if dtype == np.uint16 else 1)
    frame = Frame(np.pad(scan, ((70, 50), (0, 134))))
    assert frame.content_box == Box(0, 70, 400, 300)
    assert np.array_equal(preprocess(frame, BY_FRAME), preprocess(Frame(scan), BY_FRAME))
    resampled = resample_to_frame(np.ones((160, 224), np.float32), frame)
    assert resampled[70:370, :400].all()
    assert resampled.sum() == 300 * 400


def test_a_black_frame_is_not_cropped() -> None:
    assert Frame(np.ones((30, 40), np.uint8)).content_box == Box(0, 0, 40, 30)
