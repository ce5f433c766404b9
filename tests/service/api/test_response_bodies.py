"""The responses for a frame: JSON, GeoJSON, pictures and headers. Each has the form of its response model."""

import base64
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from pydantic import TypeAdapter

from service.api import response_bodies
from service.api import response_schemas as models
from service.decoding.cropping import Box
from service.decoding.frame import Frame
from service.errors import ErrorCode, FrameError
from service.inference.segmentation_result import FrameFailure, FrameResult, FrameSegmentation
from service.model.card import Card

FAILURE = FrameFailure(5, FrameError(ErrorCode.MALFORMED, "Broken."))


def make_result(mask: np.ndarray, confidence: float | None = 0.876543, **frame_fields) -> FrameResult:
    return FrameResult(Frame(mask // 2, **frame_fields), FrameSegmentation(mask, 0.93456, confidence, 8.7), 2.2345)


@pytest.fixture
def box() -> np.ndarray:
    """A mask with a rectangle."""
    mask = np.zeros((40, 50), np.uint8)
    mask[10:15, 20:30] = 255
    return mask


@pytest.fixture
def empty() -> np.ndarray:
    """A mask without a nerve."""
    return np.zeros((40, 50), np.uint8)


@pytest.fixture
def results(box, empty) -> list[FrameResult]:
    """Frames with and without a nerve, with and without facts from a file; and a mask of two parts with a hole."""
    two_parts = box.copy()
    two_parts[25:35, 5:15], two_parts[28:30, 8:10] = 255, 0
    facts = {"scan_area": Box(1, 2, 30, 20), "spacing_mm": (0.2, 0.5), "frame_rate_hz": 29.97, "notes": ("a note",)}
    return [
        make_result(box),
        make_result(empty, None),
        make_result(box, index=3, **facts),
        make_result(empty, None, **facts),
        make_result(two_parts, **facts),
    ]


def validate(response: object, model: type) -> None:
    """Raises ValidationError when the response's JSON does not have the form of the model."""
    TypeAdapter(model).validate_json(json.dumps(response), strict=True)


@pytest.mark.parametrize("picture_kind", [None, *response_bodies.PICTURE_KINDS])
def test_every_json_response_has_the_form_of_its_model(card, results, picture_kind) -> None:
    for result in results:
        response = response_bodies.build_segmentation(result, card, picture_kind)
        validate(response, models.Segmentation)
        validate({"message": 0, **response}, models.StreamResponse)


def test_every_geojson_response_has_the_form_of_its_model(card, results) -> None:
    features = [response_bodies.build_feature(result, card) for result in results]
    for feature in features:
        validate(feature, models.Feature)
    kinds = {feature["geometry"] and feature["geometry"]["type"] for feature in features}
    assert kinds == {None, "Polygon", "MultiPolygon"}


def test_every_error_has_the_form_of_its_model(card) -> None:
    for code in ErrorCode:
        error = response_bodies.build_error(FrameError(code, "Broken.", code.statuses[0]))
        validate(error, models.Error)
        validate({"message": 0, **error}, models.StreamResponse)
    failed_frame = response_bodies.build_outcome(FAILURE, card)
    validate(failed_frame, models.FailedFrame)
    validate({"message": 0, **failed_frame}, models.StreamResponse)
    validate({"message": 0, "dropped": True}, models.StreamResponse)


def test_the_models_allow_no_other_members(card, box) -> None:
    with pytest.raises(ValueError, match="extra"):
        validate({**response_bodies.build_segmentation(make_result(box), card), "other": 1}, models.Segmentation)


def test_an_error_has_a_status_of_its_code() -> None:
    assert FrameError(ErrorCode.MALFORMED, "Broken.").status == 400
    assert FrameError(ErrorCode.HEADER, "Broken.", 413).status == 413
    with pytest.raises(ValueError, match=r"malformed.*400.*422"):
        FrameError(ErrorCode.MALFORMED, "Broken.", 422)
    with pytest.raises(ValueError, match=r"header.*413.*422.*None"):
        FrameError(ErrorCode.HEADER, "Broken.")


def test_clients_get_the_same_bytes_for_the_same_result(card, box) -> None:
    """The names and the order of members, and how numbers are rounded, must not change."""
    outcome = response_bodies.build_outcome(make_result(box, index=3, spacing_mm=(0.2, 0.5)), card)
    outcome["milliseconds"]["answer"] = 0.25
    assert response_bodies.encode_line(outcome) == (
        '{"frame":{"height":40,"width":50,"index":3,"area":null,"spacing_mm":[0.2,0.5],"rate_hz":null},'
        '"nerve":{"present":true,"presence":0.9346,"area_px":50,"area_mm2":5.0,"box":[20,10,10,5],'
        '"size_mm":[2.0,2.5],"contours":[[[20,10],[20,14],[29,14],[29,10],[20,10]]],"rle":"811 5 851 5 891 5 931 5 '
        '971 5 1011 5 1051 5 1091 5 1131 5 1171 5"},"confidence":{"mask":0.8765},"model":{"name":"nerve-unet",'
        '"version":"7","run_id":"0123456789abcdef","data":"d41d8cd98f00b204e9800998ecf8427e.dir","commit":"c0ffee"},'
        '"milliseconds":{"decode":2.23,"network":8.7,"answer":0.25},'
        f'"warnings":["{response_bodies.PHANTOM_WARNING}"]}}\n'
    )
    feature = response_bodies.build_outcome(make_result(box), card, as_geojson=True)
    feature["geometry"] = None  # another version of GEOS may begin a ring elsewhere
    assert response_bodies.encode_line(feature) == (
        '{"type":"Feature","geometry":null,"properties":{"classification":{"name":"nerve"},"index":0,"present":true,'
        '"presence":0.9346,"area_px":50,"area_mm2":null,"box":[20,10,10,5],"size_mm":null,'
        '"confidence":{"mask":0.8765},"model":{"name":"nerve-unet","version":"7","run_id":"0123456789abcdef",'
        '"data":"d41d8cd98f00b204e9800998ecf8427e.dir","commit":"c0ffee"},'
        f'"warnings":["{response_bodies.PHANTOM_WARNING}"]}}}}\n'
    )


def test_the_json_measures_the_mask_in_pixels(card, box) -> None:
    response = response_bodies.build_segmentation(make_result(box, index=3), card)
    assert response["frame"] == {
        "height": 40,
        "width": 50,
        "index": 3,
        "area": None,
        "spacing_mm": None,
        "rate_hz": None,
    }
    assert response["nerve"]["present"] is True
    assert response["nerve"]["presence"] == 0.9346
    assert response["nerve"]["area_px"] == 50
    assert response["nerve"]["area_mm2"] is response["nerve"]["size_mm"] is None
    assert response["nerve"]["box"] == [20, 10, 10, 5]
    assert response["confidence"] == {"mask": 0.8765}
    assert response["milliseconds"].keys() == {"decode", "network", "answer"}
    assert response["milliseconds"]["decode"] == 2.23


def test_the_json_of_a_frame_with_spacing_measures_in_millimetres(card, box) -> None:
    result = make_result(box, spacing_mm=(0.2, 0.5), scan_area=Box(1, 2, 30, 20))
    response = response_bodies.build_segmentation(result, card)
    assert response["frame"]["spacing_mm"] == [0.2, 0.5]
    assert response["frame"]["area"] == [1, 2, 30, 20]
    assert response["nerve"]["area_mm2"] == 5.0  # 50 pixels of 0.1 mm2
    assert response["nerve"]["size_mm"] == [2.0, 2.5]  # 10 columns, 5 rows


def test_the_json_of_an_empty_mask_has_no_box(card, empty) -> None:
    nerve = response_bodies.build_segmentation(make_result(empty, None, spacing_mm=(0.2, 0.5)), card)["nerve"]
    assert nerve["present"] is False
    assert (nerve["area_px"], nerve["area_mm2"]) == (0, 0)
    assert (nerve["box"], nerve["size_mm"], nerve["contours"], nerve["rle"]) == (None, None, [], "")


def test_geojson_follows_the_outer_edges_of_the_pixels(card, box, empty) -> None:
    feature = response_bodies.build_feature(make_result(box), card)
    assert feature["type"] == "Feature"
    assert set(feature["geometry"]["coordinates"][0]) == {(20, 10), (30, 10), (30, 15), (20, 15)}
    assert feature["properties"]["area_px"] == 50
    assert response_bodies.build_feature(make_result(empty, None), card)["geometry"] is None


def test_a_failed_frame_has_its_error(card) -> None:
    response = response_bodies.build_outcome(FAILURE, card)
    assert response == {"frame": {"index": 5}, "error": {"code": "malformed", "message": "Broken."}}


@pytest.mark.parametrize("kind", response_bodies.PICTURE_KINDS)
def test_the_json_can_contain_a_picture(card, box, kind) -> None:
    url = response_bodies.build_segmentation(make_result(box), card, kind)["picture"]
    prefix, data = url.split(",")
    assert prefix == ("data:image/jpeg;base64" if kind == "frame" else "data:image/png;base64")
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_UNCHANGED)
    assert picture.shape[:2] == (40, 50)
    if kind == "mask":
        assert np.array_equal(picture, box)


@pytest.mark.parametrize(("source", "has_warning"), [("phantom", True), ("usgra", False)])
def test_a_model_trained_on_the_phantom_has_a_warning(card: Card, box, source, has_warning) -> None:
    card = replace(card, trained_on=replace(card.trained_on, source=source))
    result = make_result(box)
    assert ("simulated" in "".join(response_bodies.build_segmentation(result, card)["warnings"])) is has_warning
    assert ("x-warnings" in response_bodies.picture_headers(result, card)) is has_warning


def test_the_notes_on_a_frame_are_warnings(card, empty) -> None:
    result = make_result(empty, None, notes=("two scan areas",))
    assert "two scan areas" in response_bodies.build_segmentation(result, card)["warnings"]
    assert "two scan areas" in response_bodies.picture_headers(result, card)["x-warnings"]
