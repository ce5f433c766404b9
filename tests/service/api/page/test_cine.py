"""A cine on the page: the slider, playback, and frames that arrive late or cannot be read."""

import time

import cv2
import numpy as np
import pytest
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import JPEGBaseline8Bit
from selenium.webdriver.common.keys import Keys

from tests.dicoms import make_compressed_ultrasound, make_ultrasound, to_bytes
from tests.service.api.page.page_object import CINE, NERVE_RGB, tinted_pixels

pytestmark = pytest.mark.browser

UNREADABLE_RGB = (199, 62, 62)


def test_the_slider_and_the_arrow_keys_change_the_frame(page, client) -> None:
    def service_mask(index: int) -> np.ndarray:
        response = client.post("/mask", params={"index": index}, files={"frame": CINE.read_bytes()})
        return cv2.imdecode(np.frombuffer(response.content, np.uint8), cv2.IMREAD_GRAYSCALE) > 0

    def shows_mask(index: int) -> bool:
        return np.array_equal(tinted_pixels(page.canvas_pixels()), service_mask(index))

    page.upload_cine()
    slider = page["frame-slider"]
    assert slider.get_attribute("max") == "29"
    page.wait(lambda: shows_mask(0), "the first frame's mask")
    slider.send_keys(Keys.ARROW_RIGHT * 3)
    page.wait_for_text("frame-position", "Frame 4 of 30")
    page["show-mask"].send_keys(Keys.ARROW_LEFT)  # the keys work wherever the focus is
    page.wait_for_text("frame-position", "Frame 3 of 30")
    assert not np.array_equal(service_mask(0), service_mask(2))
    page.wait(lambda: shows_mask(2), "the third frame's mask")
    assert "Frame 3 of 30" in slider.get_attribute("aria-valuetext")
    # The slider announces the frame. A live region would announce every frame of the playback, too.
    assert page["frame-position"].get_attribute("aria-live") == "off"


def test_a_cine_can_be_played_and_paused(page) -> None:
    page.upload_cine()
    page["play"].click()
    page.wait(lambda: page["frame-position"].text != "Frame 1 of 30", "another frame")
    page["play"].click()
    position = page["frame-position"].text
    time.sleep(0.3)
    assert page["frame-position"].text == position


@pytest.mark.parametrize(("attributes", "interval_ms"), [({"FrameTime": 250}, 250), ({"FrameTime": None}, 1000 / 15)])
def test_a_cine_plays_at_its_own_frame_rate(page, cine, attributes, interval_ms) -> None:
    page.upload(to_bytes(make_ultrasound(cine, **attributes)), "cine.dcm")
    page.wait_for_text("frame-position", "Frame 1 of 3")
    page.run(
        """const setTimeout = window.setTimeout;
        window.intervals = [];
        window.setTimeout = (callback, interval) => {
          intervals.push(interval);
          return setTimeout(callback, interval);
        };"""
    )
    page["play"].click()
    page.wait_for_text("frame-position", "Frame 3 of 3")
    page["play"].click()
    intervals = page.run("return intervals")
    assert intervals and intervals == pytest.approx([interval_ms] * len(intervals))


def test_the_first_frame_is_shown_before_the_others_arrive(page) -> None:
    """The answer is cut after its first line and does not end, like the answer for a long cine."""
    page.run(
        """const fetch = window.fetch;
        window.fetch = async (...request) => {
          const [line] = (await (await fetch(...request)).text()).split("\\n");
          const body = new ReadableStream({
            start(controller) { controller.enqueue(new TextEncoder().encode(line + "\\n")); },
          });
          return new Response(body, { headers: { "content-type": "application/jsonl" } });
        };"""
    )
    page.upload(CINE.read_bytes(), "cine.dcm")
    page.wait(lambda: page["frame-canvas"].is_displayed() and page.canvas_pixels().any(), "the first frame")
    assert page["stage"].get_attribute("aria-busy") == "true"


def test_the_other_frames_of_a_cine_with_a_damaged_frame_are_shown(page, speckle) -> None:
    damaged = make_compressed_ultrasound(np.stack([speckle(seed, 100, 120) for seed in range(3)]), JPEGBaseline8Bit)
    jpegs = list(generate_frames(damaged.PixelData, number_of_frames=3))
    damaged.PixelData = encapsulate([jpegs[0], jpegs[1][:60], jpegs[2]])
    page.upload(to_bytes(damaged), "damaged.dcm")
    page.wait_for_text("frame-position", "Frame 1 of 3")
    page["frame-slider"].send_keys(Keys.ARROW_RIGHT)
    page.wait_for_text("result-title", "cannot be read")
    assert page["result-error"].text
    strip = page.run(
        """const strip = document.getElementById("nerve-strip");
        return [...strip.getContext("2d").getImageData(0, 0, strip.width, 1).data];"""
    )
    assert [tuple(strip[pixel : pixel + 3]) for pixel in (0, 4, 8)] == [NERVE_RGB, UNREADABLE_RGB, NERVE_RGB]
    assert not page["download-mask"].is_displayed()
    page["frame-slider"].send_keys(Keys.ARROW_RIGHT)
    page.wait_for_text("result-title", "erve shown")
