"""The page in a real browser: what it draws, says and offers, with a mouse, a keyboard and on a phone."""

import base64
import io
import shutil
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

import cv2
import numpy as np
import pydicom
import pytest
from PIL import Image

from service.frame import Frame
from service.pictures import png
from tests.conftest import serving
from tests.dicoms import region, ultrasound, written

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: `make setup` installs it")
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium or chromedriver is not installed")

CINE = Path(pydicom.__file__).parent / "data/test_files/examples_ybr_color.dcm"  # an ultrasound of 30 frames
SECONDS = 10  # until what should have come is missed
JPEG_LOSS = 12  # grey levels; the page shows a JPEG of the frame
PHONE = 360  # pixels across
TINT = 74  # how much redder than blue a tinted pixel is, whatever its grey
NERVE = (255, 193, 7)
CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


class Page:
    """The page in the browser, as its user sees it."""

    def __init__(self, driver, folder: Path):
        self.driver = driver
        self.folder = folder

    def __getitem__(self, name: str):
        return self.driver.find_element(By.ID, name)

    def upload(self, data: bytes, name: str) -> None:
        path = self.folder / name
        path.write_bytes(data)
        self["file"].send_keys(str(path))

    def wait(self, until: Callable[[], object], what: str) -> None:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            if until():
                return
            time.sleep(0.02)
        says = self.driver.find_element(By.TAG_NAME, "main").text
        raise AssertionError(f"{what} did not come; the page says: {says}")

    def wait_for(self, name: str, text: str) -> None:
        self.wait(lambda: text in self[name].text, f"{text!r} in #{name}")

    def canvas(self) -> np.ndarray:
        """The canvas' pixels, int (height, width, 3), RGB."""
        url = self.driver.execute_script("return document.getElementById('canvas').toDataURL()")
        png = np.frombuffer(base64.b64decode(url.split(",")[1]), np.uint8)
        return cv2.cvtColor(cv2.imdecode(png, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB).astype(int)

    def console(self) -> list[str]:
        """What the browser complained of since it was last asked: faults, and what the policy forbade."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def width(self) -> int:
        """Pixels from the page's left edge to that of what stands farthest to the right."""
        return self.driver.execute_script("return document.documentElement.scrollWidth")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A headless Chromium, whose camera and screen are its own inventions."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        "--headless=new",
        "--no-sandbox",  # which root has not
        "--disable-dev-shm-usage",  # small in containers
        "--window-size=1280,900",
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    downloads = str(tmp_path_factory.mktemp("downloads"))
    options.add_experimental_option("prefs", {"download.default_directory": downloads})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    driver.downloads = Path(downloads)
    yield driver
    driver.quit()


@pytest.fixture
def page(browser, address, tmp_path) -> Iterator[Page]:
    opened = Page(browser, tmp_path)
    browser.get("about:blank")
    opened.console()  # what the page before said last
    browser.get(f"{address}/")
    yield opened
    assert opened.console() == []


def tinted(pixels: np.ndarray) -> np.ndarray:
    """Where the page tinted a grey frame: bool (height, width)."""
    return pixels[..., 0] - pixels[..., 2] > TINT / 2


def picture(pixels: np.ndarray, kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["png", "tiff", "jpeg"])
def test_the_mask_is_tinted_exactly_where_it_is(page, segmenter, speckle, kind) -> None:
    grey = np.array(Image.open(io.BytesIO(picture(speckle(3), kind))))
    mask = segmenter.segment(Frame(grey)).mask > 0
    assert 0 < mask.mean() < 1
    page.upload(picture(speckle(3), kind), f"frame.{kind}")
    page.wait_for("finding", "Nerve shown")

    shown = page.canvas()
    assert np.array_equal(tinted(shown), mask)
    frame = np.repeat(grey[..., np.newaxis], 3, axis=2).astype(int)
    assert np.abs(shown - frame)[~mask].max() <= JPEG_LOSS
    inner = cv2.erode(mask.astype(np.uint8), CROSS, borderType=cv2.BORDER_CONSTANT, borderValue=0) > 0
    assert np.array_equal((shown == NERVE).all(axis=2), mask & ~inner)  # the outline
    assert np.abs(shown - (0.7 * frame + 0.3 * np.array(NERVE)))[inner].max() <= JPEG_LOSS

    page["masked"].click()
    assert np.abs(page.canvas() - frame).max() <= JPEG_LOSS


def test_the_finding_is_told_in_words(page, client, speckle) -> None:
    data = picture(speckle(3), "png")
    nerve = client.post("/segment", files={"frame": data}).json()["nerve"]
    page.upload(data, "frame.png")
    page.wait_for("finding", "Nerve shown")
    assert page["source"].text == "frame.png"
    assert ("over 99%" if nerve["presence"] >= 0.995 else f"{nerve['presence']:.0%}") in page["presence"].text
    assert "not calibrated" in page["presence"].text  # as the card tells
    assert page["area"].text == f"{nerve['area_px']:,} pixels"
    assert "no scale" in page["size"].text
    assert "ms in the network" in page["time"].text
    assert "simulated frames" in page["warnings"].text
    assert page["told"].get_attribute("role") == "status"
    label = page["canvas"].accessible_name
    assert "Nerve shown" in label and f"{nerve['area_px']:,} pixels" in label


def test_a_frame_with_a_scale_is_measured_in_millimetres(page, speckle) -> None:
    grey = speckle(3, 100, 120)
    page.upload(written(ultrasound(grey, SequenceOfUltrasoundRegions=[region(0, 0, 119, 99)])), "frame.dcm")
    page.wait_for("finding", "Nerve shown")
    assert "mm²" in page["area"].text
    assert "mm wide" in page["size"].text


def test_no_nerve_is_told(page) -> None:
    page.upload(picture(np.zeros((64, 64), np.uint8), "png"), "black.png")
    page.wait_for("finding", "No nerve shown")
    assert page["area"].text == "none"
    assert not tinted(page.canvas()).any()


def test_what_is_no_frame_gets_the_servers_message(page, client) -> None:
    text = b"not a frame at all"
    page.upload(text, "notes.txt")
    message = client.post("/segment", files={"frame": text}).json()["error"]["message"]
    page.wait_for("fault", message)
    assert page["fault"].get_attribute("role") == "alert"
    assert "notes.txt" in page["finding"].text
    assert not page["canvas"].is_displayed()
    assert not page["masked"].is_displayed()
    assert not page["downloads"].is_displayed()
    (complaint,) = page.console()
    assert "/segment" in complaint


def test_the_empty_stage_is_clicked_to_choose_a_file(page) -> None:
    page.driver.execute_script(
        """document.getElementById("file").addEventListener("click", (event) => {
          event.preventDefault(); // no dialog, which nobody here could close
          window.asked = true;
        });"""
    )
    page["invitation"].click()
    assert page.driver.execute_script("return window.asked")
    assert page["file"].accessible_name == "Choose a file"


def test_a_service_that_is_gone_is_told(page, speckle) -> None:
    page.driver.execute_script("window.fetch = () => Promise.reject(new TypeError('Failed to fetch'))")
    page.upload(picture(speckle(3), "png"), "frame.png")
    page.wait_for("fault", "cannot be reached")


def test_a_cine_is_scrubbed_and_played(page, client) -> None:
    page.upload(CINE.read_bytes(), "cine.dcm")
    page.wait(lambda: page["position"].text == "Frame 1 of 30", "all frames")
    scrubber = page["scrubber"]
    assert scrubber.get_attribute("max") == "29"

    def mask(index: int) -> np.ndarray:
        answer = client.post("/mask", params={"index": index}, files={"frame": CINE.read_bytes()})
        return cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_GRAYSCALE) > 0

    page.wait(lambda: np.array_equal(tinted(page.canvas()), mask(0)), "the first frame's mask")
    scrubber.send_keys(Keys.ARROW_RIGHT * 3)
    page.wait_for("position", "Frame 4 of 30")
    page["masked"].send_keys(Keys.ARROW_LEFT)  # wherever the focus is
    page.wait_for("position", "Frame 3 of 30")
    assert not np.array_equal(mask(0), mask(2))
    page.wait(lambda: np.array_equal(tinted(page.canvas()), mask(2)), "the third frame's mask")
    assert "Frame 3 of 30" in scrubber.get_attribute("aria-valuetext")

    assert page["position"].get_attribute("aria-live") == "off"  # or it would talk a screen reader to death
    page["play"].click()
    page.wait_for("position", "Frame 9 of 30")
    page["play"].click()
    stood = page["position"].text
    time.sleep(0.3)
    assert page["position"].text == stood


@pytest.mark.parametrize(("told", "pause"), [({"FrameTime": 250}, 250), ({"FrameTime": None}, 1000 / 15)])
def test_a_cine_is_played_at_its_own_rate(page, speckle, told, pause) -> None:
    page.upload(written(ultrasound(np.stack([speckle(seed, 100, 120) for seed in range(3)]), **told)), "cine.dcm")
    page.wait_for("position", "Frame 1 of 3")
    page.driver.execute_script(
        """const real = window.setTimeout;
        window.pauses = [];
        window.setTimeout = (then, pause) => real(then, pauses.push(pause) && pause);"""
    )
    page["play"].click()
    page.wait_for("position", "Frame 3 of 3")
    page["play"].click()
    pauses = page.driver.execute_script("return pauses")
    assert pauses and pauses == pytest.approx([pause] * len(pauses))


def test_a_cines_first_frame_does_not_wait_for_the_rest(page, address) -> None:
    """The answer's first line, and then a silence: what a long cine is like."""
    page.driver.execute_async_script(
        """const done = arguments[0], real = window.fetch;
        window.fetch = async (...asked) => {
          const lines = (await (await real(...asked)).text()).split("\\n");
          const body = new ReadableStream({ start(to) { to.enqueue(new TextEncoder().encode(lines[0] + "\\n")); } });
          return new Response(body, { headers: { "content-type": "application/jsonl" } });
        };
        done();"""
    )
    page.upload(CINE.read_bytes(), "cine.dcm")
    page.wait(lambda: page["canvas"].is_displayed() and page.canvas().any(), "the first frame")
    assert page["stage"].get_attribute("aria-busy") == "true"


def test_a_damaged_frame_does_not_hide_the_others(page, speckle) -> None:
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGBaseline8Bit

    made = ultrasound(np.stack([speckle(seed, 100, 120) for seed in range(3)]))
    jpegs = [picture(speckle(seed, 100, 120), "jpeg") for seed in range(3)]
    jpegs[1] = jpegs[1][:60]
    made.PixelData = encapsulate(jpegs)
    made.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    page.upload(written(made), "damaged.dcm")
    page.wait_for("position", "Frame 1 of 3")
    page["scrubber"].send_keys(Keys.ARROW_RIGHT)
    page.wait_for("finding", "cannot be read")
    assert page["reason"].text
    strip = page.driver.execute_script(
        """const strip = document.getElementById("strip");
        return [...strip.getContext("2d").getImageData(0, 0, strip.width, 1).data];"""
    )
    colours = [tuple(strip[at : at + 3]) for at in (0, 4, 8)]
    assert colours == [NERVE, (199, 62, 62), NERVE]  # shown, cannot be read, shown
    assert not page["mask"].is_displayed()
    page["scrubber"].send_keys(Keys.ARROW_RIGHT)
    page.wait_for("finding", "erve shown")


def downloaded(page: Page, name: str) -> bytes:
    path = page.driver.downloads / name
    page.wait(path.exists, name)
    return path.read_bytes()


def test_the_mask_is_downloaded_as_the_server_made_it(page, client, speckle) -> None:
    data = picture(speckle(3), "png")
    page.upload(data, "one.png")
    page.wait(page["mask"].is_displayed, "the download")
    assert not page["segmentation"].is_displayed()
    page["mask"].click()
    assert downloaded(page, "one_mask.png") == client.post("/mask", files={"frame": data}).content


def test_the_dicom_segmentation_is_offered_for_dicom(page) -> None:
    page.upload(CINE.read_bytes(), "two.dcm")
    page.wait(page["segmentation"].is_displayed, "the download")
    page["segmentation"].click()
    made = pydicom.dcmread(io.BytesIO(downloaded(page, "two_segmentation.dcm")))
    assert made.Modality == "SEG"
    page["scrubber"].send_keys(Keys.ARROW_RIGHT)
    page.wait_for("position", "Frame 2 of 30")
    page["mask"].click()
    assert downloaded(page, "two_0001_mask.png").startswith(b"\x89PNG")


def drop(page: Page, *names_and_data: str | bytes) -> None:
    page.driver.execute_script(
        """const carried = new DataTransfer();
        for (let at = 0; at < arguments.length; at += 2) {
          const bytes = Uint8Array.from(atob(arguments[at + 1]), (letter) => letter.charCodeAt(0));
          carried.items.add(new File([bytes], arguments[at]));
        }
        const drop = new DragEvent("drop", { dataTransfer: carried, bubbles: true, cancelable: true });
        document.querySelector("h1").dispatchEvent(drop);""",
        *(base64.b64encode(part).decode() if isinstance(part, bytes) else part for part in names_and_data),
    )


def test_a_file_is_dropped_anywhere(page, speckle) -> None:
    drop(page, "dropped.png", picture(speckle(3), "png"))
    page.wait_for("finding", "Nerve shown")
    assert page["source"].text == "dropped.png"


def test_of_several_dropped_files_the_first_is_taken(page, speckle) -> None:
    data = picture(speckle(3), "png")
    drop(page, "first.png", data, "second.png", data)
    page.wait_for("finding", "Nerve shown")
    assert page["source"].text == "first.png"
    assert "One file at a time" in page["fault"].text


def test_the_card_is_one_click_away(page, card) -> None:
    page["about"].click()
    page.wait(page["card"].is_displayed, "the card")
    told = page["card"].text
    for known in (card.name, card.version, card.candidate, card.run_id, card.commit, "phantom", "0.8125", "CPU"):
        assert known in told
    for said in (
        card.intended_use,
        "loss Soft dice, up to 3 epochs",
        "Small nerve, 9 frames",
        "0.610 (0.520 to 0.730)",
        "Dice, mean 0.8125 (0.75 to 0.875)",
        "Presence: area under the ROC curve cannot be told by these frames",
    ):
        assert said in told
    assert "Missed, 2 test frames: There is a nerve, and no mask." in told
    assert "[object" not in told
    page.wait(lambda: page["card-worst"].get_property("naturalWidth") == 80, "the worst frames")
    page["close"].click()
    assert not page["card"].is_displayed()


def test_a_camera_is_answered_frame_by_frame(page) -> None:
    page["camera"].click()
    page.wait_for("pace", "frames a second")
    assert "behind" in page["pace"].text
    assert page["source"].text == "camera, live"
    first = page.canvas()
    page.wait(lambda: not np.array_equal(page.canvas(), first), "another frame")
    page["stop"].click()
    assert not page["stop"].is_displayed()
    last = page.canvas()
    time.sleep(0.3)
    assert np.array_equal(page.canvas(), last)
    assert page["canvas"].is_displayed()


def test_no_more_than_two_live_frames_wait_for_an_answer(page) -> None:
    page.driver.execute_script(
        """window.sent = 0;
        window.WebSocket = class extends EventTarget {
          static OPEN = 1;
          readyState = 1;
          send() { sent++; }
          close() {}
        };"""
    )
    page["camera"].click()
    page.wait(lambda: page.driver.execute_script("return sent") == 2, "two frames")
    time.sleep(0.5)
    assert page.driver.execute_script("return sent") == 2


def test_a_live_connection_that_breaks_off_is_told(page) -> None:
    page.driver.execute_script(
        """const Real = WebSocket;
        window.WebSocket = class extends Real { constructor(address) { super(address); window.opened = this; } };"""
    )
    page["camera"].click()
    page.wait_for("pace", "frames a second")
    page.driver.execute_script("opened.close()")
    page.wait_for("fault", "broke off")
    assert not page["stop"].is_displayed()


def test_a_live_mask_lies_on_its_own_frame(page, client) -> None:
    """A camera whose every frame has its bright square elsewhere."""
    page.driver.execute_script(
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
    page["camera"].click()
    page.wait_for("finding", "Nerve shown")
    for _ in range(5):
        time.sleep(0.1)
        shown = page.canvas()
        bright = cv2.cvtColor(shown.astype(np.uint8), cv2.COLOR_RGB2GRAY) > 128
        assert (bright & tinted(shown)).sum() > 0.8 * bright.sum() > 0
    page["stop"].click()
    ended = "return media.getTracks().every((track) => track.readyState === 'ended')"
    page.wait(lambda: page.driver.execute_script(ended), "the camera's end")


def test_a_screen_is_looked_at(page) -> None:
    page["screen"].click()
    page.wait_for("pace", "frames a second")
    page["stop"].click()


@pytest.mark.parametrize(
    ("refusal", "message"), [("NotAllowedError", "not allowed"), ("NotFoundError", "not found"), ("", "https")]
)
def test_without_a_camera_the_page_says_why(page, refusal, message) -> None:
    page.driver.execute_script(
        """const name = arguments[0];
        navigator.mediaDevices.getUserMedia =
          name ? () => Promise.reject(new DOMException("", name)) : undefined;""",
        refusal,
    )
    page["camera"].click()
    page.wait_for("fault", message)
    assert not page["stop"].is_displayed()


def test_a_phone_needs_no_sideways_scrolling(page) -> None:
    page.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": PHONE, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    )
    try:
        assert page.width() == PHONE
        page.upload(CINE.read_bytes(), "cine.dcm")
        page.wait(lambda: page["position"].text == "Frame 1 of 30", "all frames")
        assert page.width() == PHONE
        for summary in page.driver.find_elements(By.CSS_SELECTOR, "footer summary"):
            summary.click()
        page["about"].click()
        page.wait(page["card"].is_displayed, "the card")
        assert page.width() == PHONE
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_eyes_wishes_are_respected(page) -> None:
    def seen(feature: str, wish: str) -> tuple[str, str]:
        wishes = {"features": [{"name": feature, "value": wish}]}
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", wishes)
        return page.driver.execute_script(
            """document.getElementById("stage").ariaBusy = "true";
            return [getComputedStyle(document.documentElement).backgroundColor,
                    getComputedStyle(document.getElementById("stage"), "::after").animationName];"""
        )

    try:
        (light, _), (dark, moving) = seen("prefers-color-scheme", "light"), seen("prefers-color-scheme", "dark")
        assert light != dark
        assert moving != "none"
        assert seen("prefers-reduced-motion", "reduce")[1] == "none"
    finally:
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_every_control_is_named_and_reached_by_tab(page) -> None:
    page.upload(CINE.read_bytes(), "cine.dcm")
    page.wait(lambda: page["position"].text == "Frame 1 of 30", "all frames")
    controls = page.driver.find_elements(By.CSS_SELECTOR, "button, input, summary, a[href]")
    offered = [control for control in controls if control.is_displayed() or control == page["file"]]
    page.driver.execute_script("document.activeElement.blur()")
    reached = []
    for _ in range(len(offered) + 5):
        webdriver.ActionChains(page.driver).send_keys(Keys.TAB).perform()
        reached.append(page.driver.switch_to.active_element)
    for control in offered:
        assert control in reached, control.get_attribute("outerHTML")
        assert control.accessible_name.strip(), control.get_attribute("outerHTML")


def test_behind_a_key_the_browser_asks_for_it_and_sends_it_from_then_on(browser, model_folder, tmp_path, speckle):
    key = "a key for the browser"
    (tmp_path / "keys.txt").write_text(f"browser {sha256(key.encode()).hexdigest()}\n")
    with serving(model_folder, tmp_path, NERVEMASK_KEYS=str(tmp_path / "keys.txt")) as server:
        # What a user types into the browser's own window.
        browser.get(server.address.replace("://", f"://any:{quote(key)}@"))
        browser.get(server.address)
        page = Page(browser, tmp_path)
        page.upload(png(speckle(3)), "a.png")
        page.wait_for("finding", "Nerve")
        opened = "let s = new WebSocket('ws://' + location.host + '/stream'); let done = arguments[0];"
        opened += "s.onopen = () => done('open'); s.onerror = () => done('refused')"
        assert browser.execute_async_script(opened) == "open"
