"""A cine over HTTP: every frame gets its answer, in order; a damaged frame does not stop the others."""

import io
import json
from typing import Any

import httpx
import numpy as np
import pytest
from pydicom import Dataset, dcmread

from service.rendering.image_encoding import encode_png
from tests.conftest import patched
from tests.dicoms import make_ultrasound, to_bytes
from tests.frames import moving_tissue
from tests.service.api.conftest import DAMAGED_FRAME, FRAME_COUNT
from tests.service.api.gated_decoder import gate_last_frame

pytestmark = pytest.mark.server

DICOM, PNG = {"content-type": "application/dicom"}, {"content-type": "image/png"}
GEOJSON = {"accept": "application/geo+json"}


def area_px(answer: dict[str, Any]) -> int:
    return answer["nerve"]["area_px"]


def test_each_frame_gets_its_line_in_order(client, cine_file, cine_masks) -> None:
    answer = client.post("/segment", content=cine_file, headers=DICOM)
    assert answer.headers["content-type"].startswith("application/jsonl")
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["frame"]["index"] for line in lines] == list(range(FRAME_COUNT))
    assert [area_px(line) for line in lines] == [np.count_nonzero(mask) for mask in cine_masks]


@pytest.mark.parametrize("index", [0, 7, FRAME_COUNT - 1])
def test_index_selects_one_frame(client, cine_file, cine_masks, index) -> None:
    query = {"index": index}
    answer = client.post("/segment", params=query, content=cine_file, headers=DICOM)
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["frame"]["index"] == index
    assert area_px(answer.json()) == np.count_nonzero(cine_masks[index])
    mask = client.post("/mask", params=query, content=cine_file, headers=DICOM)
    assert mask.content == encode_png(cine_masks[index])


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ({}, 422, "several_frames"),
        ({"index": FRAME_COUNT}, 422, "no_such_frame"),
        ({"index": "x"}, 400, "index"),
    ],
    ids=str,
)
@pytest.mark.parametrize("route", ["/mask", "/overlay"])
def test_a_picture_of_a_cine_needs_the_index_of_a_frame(client, cine_file, route, query, status, code) -> None:
    answer = client.post(route, params=query, content=cine_file, headers=DICOM)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_a_damaged_frame_gets_an_error_and_the_others_their_masks(client, damaged_cine_file, cine_masks) -> None:
    answer = client.post("/segment", content=damaged_cine_file, headers=DICOM)
    lines = [json.loads(line) for line in answer.text.splitlines()]
    damaged = lines.pop(DAMAGED_FRAME)
    assert damaged["frame"] == {"index": DAMAGED_FRAME}
    assert damaged["error"]["code"] == "malformed"
    for line in lines:
        assert area_px(line) == np.count_nonzero(cine_masks[line["frame"]["index"]])


def test_a_damaged_cine_gets_no_segmentation_object(client, damaged_cine_file) -> None:
    answer = client.post("/dicom", content=damaged_cine_file, headers=DICOM)
    assert answer.status_code == 400
    assert f"Frame {DAMAGED_FRAME}" in answer.json()["error"]["message"]


def test_the_segmentation_object_holds_the_masks(client, card, cine_file, cine_masks) -> None:
    answer = client.post("/dicom", content=cine_file, headers=DICOM)
    assert answer.headers["content-type"] == "application/dicom"
    assert answer.headers["x-model-run"] == card.run_id
    assert np.array_equal(dcmread(io.BytesIO(answer.content)).pixel_array * 255, cine_masks)


def comments(segmentation: Dataset) -> list[str]:
    """The Frame Comments of each frame; empty without any."""
    return [
        frame.FrameContentSequence[0].get("FrameComments", "")
        for frame in segmentation.PerFrameFunctionalGroupsSequence
    ]


def test_a_cine_can_be_smoothed_over_time(client) -> None:
    data = to_bytes(make_ultrasound(np.stack([moving_tissue(number) for number in range(6)])))

    def presences(**parameters: str) -> list[float]:
        lines = client.post("/segment", params=parameters, content=data, headers=DICOM).text.splitlines()
        return [json.loads(line)["nerve"]["presence"] for line in lines]

    alone, smoothed = presences(), presences(smooth="true")
    assert smoothed[0] == alone[0]
    assert np.std(np.diff(smoothed)) < np.std(np.diff(alone))
    assert presences(smooth="false") == alone


def test_a_segmentation_object_of_smoothed_masks_says_so_and_has_a_uid_of_its_own(client) -> None:
    data = to_bytes(make_ultrasound(np.stack([moving_tissue(number) for number in range(6)])))

    def segmentation(**parameters: str) -> Dataset:
        return dcmread(io.BytesIO(client.post("/dicom", params=parameters, content=data, headers=DICOM).content))

    def algorithm(dataset: Dataset) -> str:
        return str(dataset.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0].AlgorithmParameters)

    alone, smoothed = segmentation(), segmentation(smooth="true")
    assert smoothed.SOPInstanceUID != alone.SOPInstanceUID
    assert smoothed.SOPInstanceUID == segmentation(smooth="true").SOPInstanceUID
    assert "smooth=true" in algorithm(smoothed)
    assert "smooth" not in algorithm(alone)
    assert smoothed.pixel_array.shape == alone.pixel_array.shape


@pytest.mark.parametrize("route", ["/segment", "/dicom"])
def test_a_value_of_smooth_that_is_no_flag_is_refused(client, cine_file, route) -> None:
    refused = client.post(route, params={"smooth": "yes"}, content=cine_file, headers=DICOM)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "smooth")


def test_a_segmentation_object_leaves_out_uncertain_masks_and_says_so(client, cine_file, cine_masks) -> None:
    lines = client.post("/segment", content=cine_file, headers=DICOM).text.splitlines()
    confidences = [json.loads(line)["confidence"]["mask"] for line in lines]
    limit = round(sorted(confidences)[1] + 1e-4, 4)
    answer = client.post("/dicom", params={"min_confidence": limit}, content=cine_file, headers=DICOM)
    left_out = [confidence < limit for confidence in confidences]
    assert 0 < sum(left_out) < len(left_out)
    segmentation = dcmread(io.BytesIO(answer.content))
    expected = [np.zeros_like(mask) if out else mask for mask, out in zip(cine_masks, left_out, strict=True)]
    assert np.array_equal(segmentation.pixel_array * 255, expected)
    assert ["left out" in comment for comment in comments(segmentation)] == left_out
    assert f"{sum(left_out)} of {len(left_out)} frames: the answer is left out" in answer.headers["x-warnings"]
    complete = dcmread(io.BytesIO(client.post("/dicom", content=cine_file, headers=DICOM).content))
    assert segmentation.SOPInstanceUID != complete.SOPInstanceUID, "another content, another UID"


def test_a_segmentation_object_with_all_masks_marks_the_doubtful_ones(client, cine_file) -> None:
    lines = client.post("/segment", content=cine_file, headers=DICOM).text.splitlines()
    warnings = ["; ".join(json.loads(line)["warnings"]) for line in lines]
    answer = client.post("/dicom", params={"min_confidence": 0}, content=cine_file, headers=DICOM)
    for comment, warning in zip(comments(dcmread(io.BytesIO(answer.content))), warnings, strict=True):
        assert warning.endswith(comment)
        assert ("confidence" in warning) is ("confidence" in comment)


@pytest.mark.parametrize("value", ["-1", "nan", "much"])
def test_a_min_confidence_that_is_no_share_gets_no_segmentation_object(client, cine_file, value) -> None:
    answer = client.post("/dicom", params={"min_confidence": value}, content=cine_file, headers=DICOM)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "min_confidence")


def test_a_segmentation_object_needs_dicom(client, cine_pixels) -> None:
    answer = client.post("/dicom", content=encode_png(cine_pixels[0]), headers=PNG)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "not_dicom")


def test_geojson_of_a_frame_and_of_a_cine(client, cine_file, cine_masks, cine_pixels) -> None:
    answer = client.post("/segment", content=encode_png(cine_pixels[3]), headers=PNG | GEOJSON)
    assert answer.headers["content-type"] == "application/geo+json"
    areas_px = [np.count_nonzero(mask) for mask in cine_masks]
    assert answer.json()["properties"]["area_px"] == areas_px[3]
    lines = client.post("/segment", content=cine_file, headers=DICOM | GEOJSON).text.splitlines()
    assert [json.loads(line)["properties"]["area_px"] for line in lines] == areas_px


def test_the_first_line_arrives_before_the_last_frame_is_decoded(model_folder, tmp_path, cine_file) -> None:
    gate = tmp_path / "gate"
    with (
        patched(gate_last_frame(gate), model_folder, tmp_path) as server,
        httpx.stream("POST", f"{server.address}/segment", content=cine_file, headers=DICOM, timeout=120) as answer,
    ):
        lines = answer.iter_lines()
        first = json.loads(next(lines))
        gate.touch()
        others = [json.loads(line) for line in lines]
    assert [line["frame"]["index"] for line in [first, *others]] == list(range(FRAME_COUNT))
    assert all("nerve" in line for line in others)
