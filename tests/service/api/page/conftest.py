"""A headless Chromium with the page of the tiny model."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver

from tests.service.api.page.page_object import Page


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """A headless Chromium with an artificial camera and screen."""

    chromium, chromedriver = (shutil.which(name) for name in ("chromium", "chromedriver"))
    if not (chromium and chromedriver):
        pytest.skip("chromium or chromedriver is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        "--headless=new",
        "--no-sandbox",  # Chromium's sandbox does not run as root
        "--disable-dev-shm-usage",  # /dev/shm is small in containers
        "--window-size=1280,900",
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    downloads = str(tmp_path_factory.mktemp("downloads"))
    options.add_experimental_option("prefs", {"download.default_directory": downloads})
    driver = webdriver.Chrome(options, webdriver.ChromeService(chromedriver))
    driver.downloads = Path(downloads)
    yield driver
    driver.quit()


@pytest.fixture
def page(browser, address, tmp_path) -> Iterator[Page]:
    """The page. The test fails when the browser's console has a message at its end."""

    page = Page(browser, tmp_path)
    browser.get("about:blank")
    page.console_messages()  # those of the page before
    browser.get(f"{address}/")
    page.wait(lambda: page.run("return document.readyState") == "complete", "the whole page")
    yield page
    assert page.console_messages() == []
