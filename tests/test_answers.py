"""What is answered of a frame: the JSON, the GeoJSON, the pictures."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from service import answers, pictures
from service.card import Card
from service.errors import FrameError
from service.frame import Area, Frame
from service.segmenter import Seen, Segmentation, Unseen


def seen(mask: np.ndarray, confidence: float | None = 0.876543, **of_frame) -> Seen:
    return Seen(Frame(mask // 2, **of_frame), Segmentation(mask, 0.93456, confidence, 8.7), 2.2345)


@pytest.fixture
def box() -> np.ndarray:
    mask = np.zeros((40, 50), np.uint8)
    mask[10:15, 20:30] = 255
    return mask


@pytest.fixture
def nothing() -> np.ndarray:
    return np.zeros((40, 50), np.uint8)


def test_the_json_measures_the_mask(card: Card, box: np.ndarray) -> None:
    answer = answers.segment(seen(box, index=3), card)
    assert answer["frame"] == {"height": 40, "width": 50, "index": 3, "area": None, "spacing_mm": None, "rate_hz": None}
    assert answer["nerve"]["present"] is True
    assert answer["nerve"]["presence"] == 0.9346
    assert answer["nerve"]["area_px"] == 50
    assert answer["nerve"]["area_mm2"] is answer["nerve"]["size_mm"] is None
    assert answer["nerve"]["box"] == [20, 10, 10, 5]
    assert answer["confidence"] == {"mask": 0.8765}
    assert answer["milliseconds"].keys() == {"decode", "network", "answer"}
    assert answer["milliseconds"]["decode"] == 2.23


def test_with_spacing_it_measures_in_millimetres(card: Card, box: np.ndarray) -> None:
    answer = answers.segment(seen(box, spacing=(0.2, 0.5), area=Area(1, 2, 30, 20)), card)
    assert answer["frame"]["spacing_mm"] == [0.2, 0.5]
    assert answer["frame"]["area"] == [1, 2, 30, 20]
    assert answer["nerve"]["area_mm2"] == 5.0  # 50 pixels of 0.1 mm2
    assert answer["nerve"]["size_mm"] == [2.0, 2.5]  # 10 columns, 5 rows


def test_the_json_of_an_empty_mask_has_no_box(card: Card, nothing: np.ndarray) -> None:
    nerve = answers.segment(seen(nothing, None, spacing=(0.2, 0.5)), card)["nerve"]
    assert nerve["present"] is False
    assert (nerve["area_px"], nerve["area_mm2"]) == (0, 0)
    assert (nerve["box"], nerve["size_mm"], nerve["contours"], nerve["rle"]) == (None, None, [], "")


def test_geojson_is_a_feature_of_the_masks_area(card: Card, box: np.ndarray, nothing: np.ndarray) -> None:
    feature = answers.geojson(seen(box), card)
    assert feature["type"] == "Feature"
    ring = {(20, 10), (30, 10), (30, 15), (20, 15)}  # the outer edges of the pixels
    assert set(feature["geometry"]["coordinates"][0]) == ring
    assert feature["properties"]["area_px"] == 50
    assert answers.geojson(seen(nothing, None), card)["geometry"] is None


def test_a_frame_that_could_not_be_seen_says_why(card: Card) -> None:
    told = answers.outcome(Unseen(5, FrameError("malformed", "Broken.", 400)), card)
    assert told == {"frame": {"index": 5}, "error": {"code": "malformed", "message": "Broken."}}


@pytest.mark.parametrize("kind", answers.PICTURES)
def test_a_picture_may_come_with_the_json(card: Card, box: np.ndarray, kind: str) -> None:
    import base64

    url = answers.segment(seen(box), card, kind)["picture"]
    head, data = url.split(",")
    assert head == ("data:image/jpeg;base64" if kind == "frame" else "data:image/png;base64")
    read = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_UNCHANGED)
    assert read.shape[:2] == (40, 50)
    if kind == "mask":
        assert np.array_equal(read, box)


def test_the_png_of_a_mask_is_the_mask(box: np.ndarray) -> None:
    read = cv2.imdecode(np.frombuffer(pictures.png(box), np.uint8), cv2.IMREAD_UNCHANGED)
    assert read.dtype == np.uint8
    assert np.array_equal(read, box)


@pytest.mark.parametrize("deep", [False, True])
def test_an_overlay_changes_the_frame_at_the_nerve_alone(box: np.ndarray, deep: bool) -> None:
    grey = np.arange(2000, dtype=np.uint8).reshape(40, 50)
    frame = Frame(grey.astype(np.uint16) * 257 if deep else grey)
    picture = pictures.overlay(frame, box)
    changed = (picture != grey[..., np.newaxis]).any(axis=2)
    assert np.array_equal(changed, box > 0)
    assert tuple(picture[10, 20]) == pictures.NERVE_BGR  # the outline
    assert tuple(picture[12, 25]) != pictures.NERVE_BGR  # the tint


@pytest.mark.parametrize(("source", "warned"), [("phantom", True), ("usgra", False)])
def test_a_model_of_the_phantom_warns(card: Card, nothing: np.ndarray, source: str, warned: bool) -> None:
    card = replace(card, trained_on=replace(card.trained_on, source=source))
    empty = seen(nothing, None)
    assert ("simulated" in "".join(answers.segment(empty, card)["warnings"])) is warned
    assert ("x-warnings" in answers.headers(empty, card)) is warned


def test_a_frames_notes_are_told(card: Card, nothing: np.ndarray) -> None:
    noted = seen(nothing, None, notes=("two scan areas",))
    assert "two scan areas" in answers.segment(noted, card)["warnings"]
    assert "two scan areas" in answers.headers(noted, card)["x-warnings"]
