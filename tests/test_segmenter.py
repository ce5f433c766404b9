"""A frame to its mask: the same picture the same mask, each thread its own, and the card's decision kept."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from service.card import Card, Logistic
from service.errors import ModelFolderError
from service.frame import Frame, decode
from service.pictures import png
from service.segmenter import ALONE_SECONDS, AtWork, Segmenter


def test_bright_is_nerve_for_the_tiny_network(segmenter: Segmenter) -> None:
    pixels = np.full((420, 580), 20, np.uint8)
    pixels[100:200, 300:450] = 255
    found = segmenter.segment(Frame(pixels))
    assert found.present
    assert found.presence > 0.9
    assert found.confidence is not None
    assert 0.5 <= found.confidence <= 1
    assert found.mask[pixels > 20].all()
    assert np.count_nonzero(found.mask) < 2 * np.count_nonzero(pixels > 20)  # its blur lets the mask grow
    rows, columns = np.nonzero(found.mask)
    assert abs(rows.mean() - 149.5) < 2
    assert abs(columns.mean() - 374.5) < 2


def test_one_picture_in_four_files_is_one_mask(segmenter: Segmenter, same_frame: dict[str, bytes]) -> None:
    masks = {name: png(segmenter.segment(decode(data)).mask) for name, data in same_frame.items()}
    assert np.count_nonzero(segmenter.segment(decode(same_frame["8-bit PNG"])).mask) > 0
    assert len(set(masks.values())) == 1


@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 333), (420, 580), (1023, 769)])
def test_the_mask_has_the_frames_size(segmenter: Segmenter, speckle, height: int, width: int) -> None:
    mask = segmenter.segment(Frame(speckle(0, height, width))).mask
    assert mask.shape == (height, width)
    assert mask.dtype == np.uint8
    assert set(np.unique(mask)) <= {0, 255}


@pytest.mark.parametrize("grey", [0, 255])
def test_a_frame_of_one_grey_holds_no_nerve(segmenter: Segmenter, grey: int) -> None:
    found = segmenter.segment(Frame(np.full((420, 580), grey, np.uint8)))
    assert not found.present
    assert found.confidence is None
    assert not found.mask.any()


def test_eight_threads_get_each_their_own_mask(segmenter: Segmenter, speckle) -> None:
    frames = [Frame(speckle(seed)) for seed in range(64)]
    one_by_one = [segmenter.segment(frame).mask.tobytes() for frame in frames]
    assert len(set(one_by_one)) == len(frames)
    with ThreadPoolExecutor(8) as threads:
        at_once = [found.mask.tobytes() for found in threads.map(segmenter.segment, frames)]
    assert at_once == one_by_one


def test_what_is_answered_is_calibrated(card: Card, segmenter: Segmenter, model_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model_folder, tmp_path / "champion"))
    doubting = Logistic(1.0, -1.0)
    decision = replace(card.decision, presence=0.0, presence_calibration=doubting, certainty_calibration=doubting)
    replace(card, decision=decision).write(folder)
    pixels = np.full((420, 580), 20, np.uint8)
    pixels[100:200, 300:450] = 255
    plain, doubted = segmenter.segment(Frame(pixels)), Segmenter(folder).segment(Frame(pixels))
    assert doubted.presence == pytest.approx(doubting(plain.presence))
    assert doubted.confidence == pytest.approx(doubting(plain.confidence or 0))
    assert np.array_equal(doubted.mask, plain.mask)


def test_a_network_that_is_not_the_cards_is_refused(card: Card, model_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model_folder, tmp_path / "champion"))
    replace(card, input=replace(card.input, height=80)).write(folder)  # the network takes 48 rows
    with pytest.raises(ModelFolderError, match=r"unet\.onnx is no network that fits its card"):
        Segmenter(folder)


def test_a_file_that_is_no_network_is_refused(card: Card, model_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model_folder, tmp_path / "champion"))
    (folder / "unet.onnx").write_bytes(b"no network")
    card.write(folder)
    with pytest.raises(ModelFolderError, match=r"unet\.onnx is no network"):
        Segmenter(folder)


def test_outputs_of_other_names_are_refused(card: Card, model_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model_folder, tmp_path / "champion"))
    network = onnx.load(folder / "unet.onnx")
    for node in network.graph.node:
        node.output[:] = ["likelihood" if name == "presence" else name for name in node.output]
    network.graph.output[1].name = "likelihood"
    onnx.save(network, folder / "unet.onnx")
    card.write(folder)
    with pytest.raises(ModelFolderError, match=r"unet\.onnx is no network that fits"):
        Segmenter(folder)


def test_a_frame_takes_all_cores_only_where_no_other_was_there_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("service.segmenter.time.monotonic", lambda: now)
    at_work = AtWork()
    with at_work:
        assert at_work.alone
        with at_work:
            assert not at_work.alone
        assert not at_work.alone
    now += 1.01 * ALONE_SECONDS
    with at_work:
        assert at_work.alone
