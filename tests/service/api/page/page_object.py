"""The page in a browser, as its user sees it (Selenium's "page object")."""

import base64
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pydicom
from selenium.webdriver.common.by import By

CINE = Path(pydicom.__file__).parent / "data/test_files/examples_ybr_color.dcm"  # an ultrasound of 30 frames
MAX_WAIT_SECONDS = 60
NERVE_RGB = (255, 193, 7)
TINT = 74  # how much redder than blue a tinted pixel is, whatever its grey


class Page:
    """The page in a browser. page[id] is the element with this id."""

    def __init__(self, driver, folder: Path):
        self.driver = driver
        self.folder = folder

    def __getitem__(self, element_id: str):
        return self.driver.find_element(By.ID, element_id)

    def run(self, script: str, *arguments: object):
        """The result of JavaScript in the page."""
        return self.driver.execute_script(script, *arguments)

    def upload(self, data: bytes, name: str) -> None:
        path = self.folder / name
        path.write_bytes(data)
        self["file-input"].send_keys(str(path))

    def upload_cine(self) -> None:
        """Upload CINE and wait for its last frame."""
        self.upload(CINE.read_bytes(), "cine.dcm")
        self.wait(lambda: self["frame-position"].text == "Frame 1 of 30", "the whole cine")

    def wait(self, condition: Callable[[], object], what: str) -> None:
        end = time.monotonic() + MAX_WAIT_SECONDS
        while time.monotonic() < end:
            if condition():
                return
            time.sleep(0.02)
        text = self.driver.find_element(By.TAG_NAME, "main").text
        raise AssertionError(f"{what} did not appear; console: {self.console_messages()}; text of the page: {text}")

    def wait_for_text(self, element_id: str, text: str) -> None:
        self.wait(lambda: text in self[element_id].text, f"{text!r} in #{element_id}")

    def canvas_pixels(self) -> np.ndarray:
        """The pixels of the canvas: int (height, width, 3), RGB."""
        url = self.run("return document.getElementById('frame-canvas').toDataURL()")
        png = np.frombuffer(base64.b64decode(url.split(",")[1]), np.uint8)
        return cv2.cvtColor(cv2.imdecode(png, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB).astype(int)

    def console_messages(self) -> list[str]:
        """New messages of the browser: errors, and violations of the content security policy."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def downloaded(self, name: str) -> bytes:
        """The content of a downloaded file."""
        path = self.driver.downloads / name
        # Chromium creates an empty file with this name before it writes the content to another one.
        self.wait(lambda: path.exists() and path.stat().st_size > 0, name)
        return path.read_bytes()


def tinted_pixels(pixels: np.ndarray) -> np.ndarray:
    """Where the page tinted a grey frame: bool (height, width)."""
    return pixels[..., 0] - pixels[..., 2] > TINT / 2
