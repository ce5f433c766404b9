"""A live camera or screen on the page."""

import time

import cv2
import numpy as np
import pytest

from tests.service.api.page.page_object import tinted_pixels

pytestmark = pytest.mark.browser


def test_camera_frames_are_segmented_until_stop(page) -> None:
    page["live-camera"].click()
    page.wait_for_text("live-rate", "frames per second")
    assert "delay" in page["live-rate"].text
    assert page["fact-source"].text == "camera, live"
    first = page.canvas_pixels()
    page.wait(lambda: not np.array_equal(page.canvas_pixels(), first), "another frame")
    page["stop-live"].click()
    assert not page["stop-live"].is_displayed()
    last = page.canvas_pixels()
    time.sleep(0.3)
    assert np.array_equal(page.canvas_pixels(), last)
    assert page["frame-canvas"].is_displayed()


def test_at_most_two_live_frames_are_unanswered(page) -> None:
    page.run(
        """window.sent = 0;
        window.WebSocket = class extends EventTarget {
          static OPEN = 1;
          readyState = 1;
          send() { sent++; }
          close() {}
        };"""
    )
    page["live-camera"].click()
    page.wait(lambda: page.run("return sent") == 2, "the second frame")
    time.sleep(0.5)
    assert page.run("return sent") == 2


def test_the_page_shows_that_the_live_connection_ended(page) -> None:
    page.run(
        """const Original = WebSocket;
        window.WebSocket = class extends Original {
          constructor(address) { super(address); window.socket = this; }
        };"""
    )
    page["live-camera"].click()
    page.wait_for_text("live-rate", "frames per second")
    page.run("socket.close()")
    page.wait_for_text("error", "refused or ended")
    assert not page["stop-live"].is_displayed()


def test_a_live_mask_is_drawn_on_its_own_frame(page) -> None:
    """The camera shows a bright square that is elsewhere in every frame."""
    page.run(
        """const scene = document.createElement("canvas");
        Object.assign(scene, { width: 320, height: 240 });
        const context = scene.getContext("2d");
        setInterval(() => {
          context.fillStyle = "#222"; context.fillRect(0, 0, 320, 240);
          context.fillStyle = "#eee"; context.fillRect(Math.random() * 250, Math.random() * 170, 70, 70);
        }, 40);
        window.media = scene.captureStream();
        navigator.mediaDevices.getUserMedia = async () => media;"""
    )
    page["live-camera"].click()
    page.wait_for_text("result-title", "Nerve shown")
    for _ in range(5):
        time.sleep(0.1)
        pixels = page.canvas_pixels()
        bright = cv2.cvtColor(pixels.astype(np.uint8), cv2.COLOR_RGB2GRAY) > 128
        assert (bright & tinted_pixels(pixels)).sum() > 0.8 * bright.sum() > 0
    page["stop-live"].click()
    ended = "return media.getTracks().every((track) => track.readyState === 'ended')"
    page.wait(lambda: page.run(ended), "the end of the camera")


def test_screen_frames_are_segmented(page) -> None:
    page["live-screen"].click()
    page.wait_for_text("live-rate", "frames per second")
    page["stop-live"].click()


@pytest.mark.parametrize(
    ("error", "message"), [("NotAllowedError", "not allowed"), ("NotFoundError", "not found"), ("", "https")]
)
def test_the_page_shows_why_there_is_no_camera(page, error, message) -> None:
    page.run(
        """const name = arguments[0];
        navigator.mediaDevices.getUserMedia =
          name ? () => Promise.reject(new DOMException("", name)) : undefined;""",
        error,
    )
    page["live-camera"].click()
    page.wait_for_text("error", message)
    assert not page["stop-live"].is_displayed()
