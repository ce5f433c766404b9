"""Segmenter: the mask of a frame, the results of a cine, and model folders that must not be served."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from service.decoding.cropping import Box
from service.decoding.frame import Frame
from service.decoding.image_file import decode_image
from service.errors import ErrorCode, FrameError, ModelFolderError
from service.inference.frames_in_flight import ALL_CORES_AFTER_SECONDS, FramesInFlight
from service.inference.segmentation_result import FrameFailure, FrameResult
from service.inference.segmenter import Segmenter
from service.model.card import Card
from service.model.platt_scaling import PlattScaling
from service.rendering.image_encoding import encode_png
from service.resources.worker_memory import UNLIMITED_MEMORY


@pytest.fixture
def bright_rectangle() -> np.ndarray:
    """A frame, uint8 (420, 580), in which the tiny network finds a nerve: a bright rectangle."""
    pixels = np.full((420, 580), 20, np.uint8)
    pixels[100:200, 300:450] = 255
    return pixels


@pytest.fixture
def folder(model_folder: Path, tmp_path: Path) -> Path:
    """A copy of the model folder."""
    return Path(shutil.copytree(model_folder, tmp_path / "champion"))


def test_the_mask_covers_the_bright_rectangle(segmenter: Segmenter, bright_rectangle) -> None:
    result = segmenter.segment(Frame(bright_rectangle))
    assert result.present
    assert result.presence > 0.9
    assert result.confidence is not None
    assert 0.5 <= result.confidence <= 1
    inside = bright_rectangle > 20
    assert result.mask[inside].all()
    assert np.count_nonzero(result.mask) < 2 * np.count_nonzero(inside)  # the network's blur extends the mask
    rows, columns = np.nonzero(result.mask)
    assert abs(rows.mean() - 149.5) < 2
    assert abs(columns.mean() - 374.5) < 2


def test_the_mask_is_empty_outside_the_scan_area(segmenter: Segmenter, bright_rectangle) -> None:
    scan_area = Box(250, 50, 300, 300)
    result = segmenter.segment(Frame(bright_rectangle, scan_area=scan_area))
    assert result.mask.shape == bright_rectangle.shape
    expected = segmenter.segment(Frame(scan_area.crop(bright_rectangle)))
    assert np.array_equal(scan_area.crop(result.mask), expected.mask)
    assert np.count_nonzero(result.mask) == np.count_nonzero(expected.mask) > 0


def test_the_same_picture_in_four_files_gets_the_same_mask(segmenter: Segmenter, same_frame: dict[str, bytes]) -> None:
    masks = {name: segmenter.segment(decode_image(data)).mask for name, data in same_frame.items()}
    assert np.count_nonzero(masks["8-bit PNG"]) > 0
    assert len({encode_png(mask) for mask in masks.values()}) == 1


@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 333), (420, 580), (1023, 769)])
def test_the_mask_has_the_frames_size(segmenter: Segmenter, speckle, height: int, width: int) -> None:
    mask = segmenter.segment(Frame(speckle(0, height, width))).mask
    assert mask.shape == (height, width)
    assert mask.dtype == np.uint8
    assert set(np.unique(mask)) <= {0, 255}


@pytest.mark.parametrize("grey", [0, 255])
def test_a_frame_of_one_grey_value_has_no_nerve(segmenter: Segmenter, grey: int) -> None:
    result = segmenter.segment(Frame(np.full((420, 580), grey, np.uint8)))
    assert not result.present
    assert result.confidence is None
    assert not result.mask.any()


def test_concurrent_threads_get_their_own_masks(segmenter: Segmenter, speckle) -> None:
    frames = [Frame(speckle(seed)) for seed in range(64)]
    sequential = [segmenter.segment(frame).mask.tobytes() for frame in frames]
    assert len(set(sequential)) == len(frames)
    with ThreadPoolExecutor(8) as threads:
        concurrent = [result.mask.tobytes() for result in threads.map(segmenter.segment, frames)]
    assert concurrent == sequential


def test_presence_and_confidence_are_calibrated(card: Card, segmenter: Segmenter, folder, bright_rectangle) -> None:
    scaling = PlattScaling(1.0, -1.0)
    config = replace(
        card.postprocessing, min_presence=0.0, presence_calibration=scaling, confidence_calibration=scaling
    )
    replace(card, postprocessing=config).write(folder)
    frame = Frame(bright_rectangle)
    uncalibrated, calibrated = segmenter.segment(frame), Segmenter(folder).segment(frame)
    assert calibrated.presence == pytest.approx(scaling(uncalibrated.presence))
    assert calibrated.confidence == pytest.approx(scaling(uncalibrated.confidence or 0))
    assert np.array_equal(calibrated.mask, uncalibrated.mask)


class StubCine:
    """A cine whose frame 2 is damaged."""

    frame_count = 5

    def __init__(self, speckle):
        self.speckle = speckle

    def frame_bytes(self, index: int, rendered_bytes_per_pixel: int = 0) -> int:
        return 0

    def read_encoded(self, index: int) -> bytes:
        return bytes([index])

    def decode(self, encoded: bytes, index: int) -> Frame:
        if index == 2:
            raise FrameError(ErrorCode.MALFORMED, "Frame 2 is damaged.")
        return Frame(self.speckle(encoded[0], 60, 80), index=index)


def test_a_cine_gives_all_results_in_order_and_a_failure_for_a_damaged_frame(segmenter: Segmenter, speckle) -> None:
    cine = StubCine(speckle)
    batches = list(segmenter.segment_cine(cine, UNLIMITED_MEMORY, lambda result: result))
    assert all(batches)
    outcomes = [outcome for batch in batches for outcome in batch]
    assert isinstance(outcomes[2], FrameFailure) and outcomes[2].index == 2
    for index in (0, 1, 3, 4):
        result = outcomes[index]
        assert isinstance(result, FrameResult) and result.frame.index == index
        expected = segmenter.segment_cine_frame(cine, index).segmentation.mask
        assert np.array_equal(result.segmentation.mask, expected)


def test_a_network_that_does_not_fit_its_card_is_rejected(card: Card, folder) -> None:
    replace(card, input=replace(card.input, height=80)).write(folder)  # the network's height is 48
    with pytest.raises(ModelFolderError, match=r"unet\.onnx is not a network that fits its card"):
        Segmenter(folder)


def test_a_file_that_holds_no_network_is_rejected(card: Card, folder) -> None:
    (folder / "unet.onnx").write_bytes(b"no network")
    card.write(folder)
    with pytest.raises(ModelFolderError, match=r"unet\.onnx is not a network"):
        Segmenter(folder)


def test_a_network_with_other_output_names_is_rejected(card: Card, folder) -> None:
    network = onnx.load(folder / "unet.onnx")
    for node in network.graph.node:
        node.output[:] = ["likelihood" if name == "presence" else name for name in node.output]
    network.graph.output[1].name = "likelihood"
    onnx.save(network, folder / "unet.onnx")
    card.write(folder)
    with pytest.raises(ModelFolderError, match=r"unet\.onnx is not a network that fits"):
        Segmenter(folder)


def test_a_frame_uses_all_cores_only_if_no_other_was_in_flight_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("service.inference.frames_in_flight.time.monotonic", lambda: now)
    in_flight = FramesInFlight()
    with in_flight:
        assert in_flight.may_use_all_cores
        with in_flight:
            assert not in_flight.may_use_all_cores
        assert not in_flight.may_use_all_cores
    now += 1.01 * ALL_CORES_AFTER_SECONDS
    with in_flight:
        assert in_flight.may_use_all_cores
