"""Outlines over HTTP: in JSON, overlays, DICOM Segmentations, streams and on the page."""

import asyncio
import base64
import io
import json
from collections.abc import Iterator

import cv2
import highdicom
import httpx
import numpy as np
import pytest
from pydicom import dcmread
from websockets.asyncio.client import connect

from service.decoding.frame import Frame
from service.inference.segmenter import Segmenter
from service.rendering.image_encoding import encode_png
from tests.conftest import serving
from tests.dicoms import make_ultrasound, to_bytes
from tests.service.api.page.conftest import browser, page  # noqa: F401 - fixtures
from tests.service.api.page.page_object import tinted_pixels

pytestmark = pytest.mark.server

PNG, DICOM = {"content-type": "image/png"}, {"content-type": "application/dicom"}
SKY_BLUE_BGR = (233, 180, 86)


@pytest.fixture(scope="module")
def address(outlines_model_folder, tmp_path_factory) -> Iterator[str]:
    """The address of a server whose model has outlines."""
    with serving(outlines_model_folder, tmp_path_factory.mktemp("outlines")) as server:
        yield server.address


@pytest.fixture(scope="module")
def client(address) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def expected(outlines_model_folder, speckle):
    """The outlines of a frame, computed in this process."""
    return Segmenter(outlines_model_folder).segment(Frame(speckle(3)), outlines=True)


def fill(contours: list[list[list[int]]], shape: tuple[int, ...]) -> np.ndarray:
    region = np.zeros(shape, np.uint8)
    cv2.fillPoly(region, [np.array(contour, np.int32) for contour in contours], 255)
    return region


def test_json_has_the_outlines_and_their_guarantee(client, expected, speckle) -> None:
    answer = client.post("/segment", params={"outlines": "true"}, content=encode_png(speckle(3)), headers=PNG).json()
    outlines = answer["nerve"]["outlines"]
    assert np.array_equal(fill(outlines["outer"], expected.mask.shape), expected.outlines.outer)
    assert np.array_equal(fill(outlines["inner"], expected.mask.shape), expected.outlines.inner)
    assert (outlines["coverage"], outlines["level"]) == (0.9, 0.9)
    assert outlines["guaranteed"] is (expected.outlines.no_guarantee is None)
    area = [np.count_nonzero(region) for region in (expected.outlines.inner, expected.mask, expected.outlines.outer)]
    assert 0 < area[0] < area[1] < area[2]


def test_without_the_parameter_nothing_changes(client, speckle) -> None:
    data = encode_png(speckle(3))
    for parameters in ({}, {"outlines": "false"}):
        assert "outlines" not in client.post("/segment", params=parameters, content=data, headers=PNG).json()["nerve"]


def test_an_overlay_shows_the_outlines(client, expected, speckle) -> None:
    response = client.post("/overlay", params={"outlines": "true"}, content=encode_png(speckle(3)), headers=PNG)
    image = cv2.imdecode(np.frombuffer(response.content, np.uint8), cv2.IMREAD_COLOR)
    blue = (image == SKY_BLUE_BGR).all(axis=2)
    assert blue.any()
    assert (expected.outlines.outer[blue] > 0).all()


@pytest.mark.parametrize("frame_count", [1, 3])
def test_a_segmentation_has_a_segment_for_each_outline(client, outlines_model_folder, speckle, frame_count) -> None:
    frames = [speckle(seed, 61, 83) for seed in range(3, 3 + frame_count)]
    source = to_bytes(make_ultrasound(np.stack(frames) if frame_count > 1 else frames[0]))

    def request(**parameters: str) -> io.BytesIO:
        response = client.post("/dicom", params=parameters, content=source, headers=DICOM)
        assert response.status_code == 200, response.text
        return io.BytesIO(response.content)

    plain = dcmread(request())
    segmentation = highdicom.seg.segread(request(outlines="true"))
    assert segmentation.SOPInstanceUID != plain.SOPInstanceUID
    labels = [segment.SegmentLabel for segment in segmentation.SegmentSequence]
    assert labels == ["Nerve", "Nerve, outer outline", "Nerve, inner outline"]
    assert "at least 90%" in segmentation.SegmentSequence[1].SegmentDescription
    assert (segmentation.SegmentsOverlap, plain.SegmentsOverlap) == ("YES", "NO")
    segmenter = Segmenter(outlines_model_folder)
    pixels = segmentation.pixel_array.reshape(-1, *frames[0].shape) * 255
    for number, frame in enumerate(frames):
        result = segmenter.segment(Frame(frame), outlines=True)
        regions = (result.mask, *result.outlines[:2])
        for segment, region in enumerate(regions):
            groups = segmentation.PerFrameFunctionalGroupsSequence[3 * number + segment]
            assert groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber == segment + 1
            is_sure = result.expected_dice >= 0.5  # /dicom leaves out other answers
            assert np.array_equal(pixels[3 * number + segment], region * is_sure)
    assert pixels.any()


def test_each_frame_of_a_cine_has_its_outlines(client, speckle) -> None:
    source = to_bytes(make_ultrasound(np.stack([speckle(seed, 61, 83) for seed in (3, 4)])))
    query = {"outlines": "true", "picture": "overlay"}
    lines = client.post("/segment", params=query, content=source, headers=DICOM).text.splitlines()
    assert [json.loads(line)["nerve"]["outlines"]["coverage"] for line in lines] == [0.9, 0.9]
    for line in lines:
        png = np.frombuffer(base64.b64decode(json.loads(line)["picture"].split(",")[1]), np.uint8)
        assert (cv2.imdecode(png, cv2.IMREAD_COLOR) == SKY_BLUE_BGR).all(axis=2).any()


def test_a_stream_has_the_outlines(address, speckle) -> None:
    async def ask() -> dict:
        async with connect(f"{address.replace('http', 'ws')}/stream?outlines=true") as socket:
            await socket.send(encode_png(speckle(3)))
            return json.loads(await socket.recv())

    assert asyncio.run(ask())["nerve"]["outlines"]["outer"]


@pytest.mark.parametrize(
    ("route", "query", "headers"),
    [
        ("/segment", "outlines=yes", PNG),
        ("/overlay", "outlines=1", PNG),
        ("/segment", "outlines=true", PNG | {"accept": "application/geo+json"}),
    ],
)
def test_a_request_that_cannot_have_outlines_is_refused(client, speckle, route, query, headers) -> None:
    response = client.post(f"{route}?{query}", content=encode_png(speckle(3)), headers=headers)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "outlines")


def test_a_model_without_outlines_says_so(model_folder, speckle, tmp_path) -> None:
    """The session's server has such a model, but this module's fixtures hide it."""
    source = to_bytes(make_ultrasound(speckle(3, 61, 83)))
    with serving(model_folder, tmp_path) as server, httpx.Client(base_url=server.address, timeout=30) as client:
        query = {"outlines": "true"}
        answer = client.post("/segment", params=query, content=source, headers=DICOM).json()
        segmentation = client.post("/dicom", params=query, content=source, headers=DICOM)
    assert "outlines" not in answer["nerve"]
    assert "the model has no outlines" in answer["warnings"]
    assert len(dcmread(io.BytesIO(segmentation.content)).SegmentSequence) == 1


@pytest.mark.browser
def test_the_page_draws_the_outlines_and_says_what_they_promise(page, expected, speckle) -> None:  # noqa: F811
    page.wait(lambda: not page.run("return document.getElementById('outlines-toggle').hidden"), "the model card")
    page.upload(encode_png(speckle(3)), "frame.png")
    page.wait_for_text("result-title", "Nerve shown")
    assert page["fact-outlines"].text == "with their guarantee"
    assert "at least 90% of the nerve in 90% of the frames" in page["outlines-note"].text
    blue = (page.canvas_pixels() == SKY_BLUE_BGR[::-1]).all(axis=2)
    assert blue[expected.outlines.inner > 0].any()  # the mask's tint does not cover it
    page["show-mask"].click()
    with_outlines = page.canvas_pixels()
    page["show-outlines"].click()
    without = page.canvas_pixels()
    changed = np.abs(with_outlines - without).max(axis=2) > 20
    lines = np.zeros(expected.mask.shape, np.uint8)
    for region in expected.outlines[:2]:
        cv2.drawContours(lines, cv2.findContours(region, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)[0], -1, 255, 3)
    assert changed.any()
    assert (lines[changed] > 0).all()
    assert not tinted_pixels(without).any()
