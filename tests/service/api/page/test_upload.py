"""An uploaded frame on the page: its mask, its result, its downloads, and files that are not frames."""

import base64
import io
from hashlib import sha256
from urllib.parse import quote

import cv2
import numpy as np
import pydicom
import pytest
from PIL import Image
from selenium.webdriver.common.keys import Keys

from service.decoding.frame import Frame
from tests import frames
from tests.conftest import serving
from tests.dicoms import make_region, make_ultrasound, to_bytes
from tests.service.api.page.page_object import CINE, NERVE_RGB, Page, tinted_pixels

pytestmark = pytest.mark.browser

MAX_JPEG_DIFFERENCE = 12  # grey levels; the page shows a JPEG of the frame
CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


def encode(pixels: np.ndarray, file_format: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, file_format)
    return file.getvalue()


@pytest.mark.parametrize("file_format", ["png", "tiff", "jpeg"])
def test_the_page_tints_exactly_the_mask(page, segmenter, speckle, file_format) -> None:
    data = encode(speckle(3), file_format)
    grey = np.array(Image.open(io.BytesIO(data)))
    mask = segmenter.segment(Frame(grey)).mask > 0
    assert 0 < mask.mean() < 1
    page.upload(data, f"frame.{file_format}")
    page.wait_for_text("result-title", "Nerve shown")

    pixels = page.canvas_pixels()
    assert np.array_equal(tinted_pixels(pixels), mask)
    frame = np.repeat(grey[..., np.newaxis], 3, axis=2).astype(int)
    assert np.abs(pixels - frame)[~mask].max() <= MAX_JPEG_DIFFERENCE
    inner = cv2.erode(mask.astype(np.uint8), CROSS, borderType=cv2.BORDER_CONSTANT, borderValue=0) > 0
    assert np.array_equal((pixels == NERVE_RGB).all(axis=2), mask & ~inner)  # the outline
    assert np.abs(pixels - (0.7 * frame + 0.3 * np.array(NERVE_RGB)))[inner].max() <= MAX_JPEG_DIFFERENCE

    page["show-mask"].click()
    assert np.abs(page.canvas_pixels() - frame).max() <= MAX_JPEG_DIFFERENCE


def test_the_page_describes_the_result(page, client, speckle) -> None:
    data = frames.png(speckle(3))
    nerve = client.post("/segment", files={"frame": data}).json()["nerve"]
    page.upload(data, "frame.png")
    page.wait_for_text("result-title", "Nerve shown")
    assert page["fact-source"].text == "frame.png"
    presence = "over 99%" if nerve["presence"] >= 0.995 else f"{nerve['presence']:.0%}"
    assert presence in page["fact-presence"].text
    assert "not calibrated" in page["fact-presence"].text  # according to the card
    assert page["fact-area"].text == f"{nerve['area_px']:,} pixels"
    assert "scale in mm is unknown" in page["fact-size"].text
    assert "ms in the network" in page["fact-time"].text
    assert "simulated frames" in page["warnings"].text
    assert page["result"].get_attribute("role") == "status"
    name = page["frame-canvas"].accessible_name
    assert "Nerve shown" in name and f"{nerve['area_px']:,} pixels" in name


def test_a_frame_with_a_known_scale_is_measured_in_millimetres(page, speckle) -> None:
    grey = speckle(3, 100, 120)
    page.upload(to_bytes(make_ultrasound(grey, SequenceOfUltrasoundRegions=[make_region(0, 0, 119, 99)])), "frame.dcm")
    page.wait_for_text("result-title", "Nerve shown")
    assert "mm²" in page["fact-area"].text
    assert "mm wide" in page["fact-size"].text


def test_a_frame_without_a_nerve_has_no_tint(page) -> None:
    page.upload(frames.png(np.zeros((64, 64), np.uint8)), "black.png")
    page.wait_for_text("result-title", "No nerve shown")
    assert page["fact-area"].text == "none"
    assert not tinted_pixels(page.canvas_pixels()).any()


def test_the_page_shows_the_services_message_for_a_file_that_is_not_a_frame(page, client) -> None:
    text = b"not a frame at all"
    page.upload(text, "notes.txt")
    message = client.post("/segment", files={"frame": text}).json()["error"]["message"]
    page.wait_for_text("error", message)
    assert page["error"].get_attribute("role") == "alert"
    assert "notes.txt" in page["result-title"].text
    assert not page["frame-canvas"].is_displayed()
    assert not page["show-mask"].is_displayed()
    assert not page["downloads"].is_displayed()
    (console_message,) = page.console_messages()
    assert "/segment" in console_message


def test_a_click_on_the_empty_stage_opens_the_file_dialog(page) -> None:
    page.run(
        """document.getElementById("file-input").addEventListener("click", (event) => {
          event.preventDefault(); // a test cannot close the dialog
          window.clicked = true;
        });"""
    )
    page["drop-zone"].click()
    assert page.run("return window.clicked")
    assert page["file-input"].accessible_name == "Choose a file"


def test_the_page_shows_that_the_service_cannot_be_reached(page, speckle) -> None:
    page.run("window.fetch = () => Promise.reject(new TypeError('Failed to fetch'))")
    page.upload(frames.png(speckle(3)), "frame.png")
    page.wait_for_text("error", "cannot be reached")


def test_the_downloaded_mask_is_the_services(page, client, speckle) -> None:
    data = frames.png(speckle(3))
    page.upload(data, "one.png")
    page.wait(page["download-mask"].is_displayed, "the download button")
    assert not page["download-dicom"].is_displayed()
    page["download-mask"].click()
    assert page.downloaded("one_mask.png") == client.post("/mask", files={"frame": data}).content


def test_a_dicom_file_offers_a_dicom_segmentation(page) -> None:
    page.upload(CINE.read_bytes(), "two.dcm")
    page.wait(page["download-dicom"].is_displayed, "the download button")
    page["download-dicom"].click()
    segmentation = pydicom.dcmread(io.BytesIO(page.downloaded("two_segmentation.dcm")))
    assert segmentation.Modality == "SEG"
    page.wait(page["frame-slider"].is_displayed, "the slider")
    page["frame-slider"].send_keys(Keys.ARROW_RIGHT)
    page.wait_for_text("frame-position", "Frame 2 of 30")
    page["download-mask"].click()
    assert page.downloaded("two_0001_mask.png").startswith(b"\x89PNG")


DROP = """
const transfer = new DataTransfer();
for (const [name, data] of Object.entries(arguments[0])) {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  transfer.items.add(new File([bytes], name));
}
const event = new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true });
document.querySelector("h1").dispatchEvent(event);
return event.defaultPrevented;
"""


def drop_files(page: Page, files: dict[str, bytes]) -> None:
    """Drop files on the page, again until its script is there and takes them."""
    encoded = {name: base64.b64encode(data).decode() for name, data in files.items()}
    page.wait(lambda: page.run(DROP, encoded), "the page's handler of dropped files")


def test_a_file_can_be_dropped_anywhere(page, speckle) -> None:
    drop_files(page, {"dropped.png": frames.png(speckle(3))})
    page.wait_for_text("result-title", "Nerve shown")
    assert page["fact-source"].text == "dropped.png"


def test_the_page_opens_the_first_of_several_dropped_files(page, speckle) -> None:
    data = frames.png(speckle(3))
    drop_files(page, {"first.png": data, "second.png": data})
    page.wait_for_text("result-title", "Nerve shown")
    assert page["fact-source"].text == "first.png"
    assert "one file at a time" in page["error"].text


def test_the_browser_keeps_an_api_key_for_uploads_and_streams(browser, model_folder, tmp_path, speckle) -> None:
    key = "a key for the browser"
    (tmp_path / "keys.txt").write_text(f"browser {sha256(key.encode()).hexdigest()}\n")
    with serving(model_folder, tmp_path, NERVEMASK_KEYS=str(tmp_path / "keys.txt")) as server:
        # The address with the key stands for what a user types into the browser's own dialog.
        browser.get(server.address.replace("://", f"://any:{quote(key)}@"))
        browser.get(server.address)
        page = Page(browser, tmp_path)
        page.upload(frames.png(speckle(3)), "a.png")
        page.wait_for_text("result-title", "Nerve shown")
        script = """const done = arguments[0], socket = new WebSocket(`ws://${location.host}/stream`);
        socket.onopen = () => done("open");
        socket.onerror = () => done("refused");"""
        assert browser.execute_async_script(script) == "open"
