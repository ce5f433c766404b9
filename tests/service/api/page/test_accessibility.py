"""The page on a phone, with the user's display preferences, and with the keyboard alone."""

import pytest
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

pytestmark = pytest.mark.browser

PHONE_WIDTH_PX = 360


def test_a_phone_needs_no_horizontal_scrolling(page) -> None:
    def scroll_width() -> int:
        return page.run("return document.documentElement.scrollWidth")

    phone = {"width": PHONE_WIDTH_PX, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        assert scroll_width() == PHONE_WIDTH_PX
        page.upload_cine()
        assert scroll_width() == PHONE_WIDTH_PX
        for summary in page.driver.find_elements(By.CSS_SELECTOR, "footer summary"):
            summary.click()
        page["open-card"].click()
        page.wait(page["card"].is_displayed, "the card")
        assert scroll_width() == PHONE_WIDTH_PX
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_page_respects_colour_scheme_and_reduced_motion(page) -> None:
    def computed_style(feature: str, value: str) -> tuple[str, str]:
        """Background colour and busy animation with this media feature."""
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": feature, "value": value}]})
        return page.run(
            """document.getElementById("stage").ariaBusy = "true";
            return [getComputedStyle(document.documentElement).backgroundColor,
                    getComputedStyle(document.getElementById("stage"), "::after").animationName];"""
        )

    try:
        light_background, _ = computed_style("prefers-color-scheme", "light")
        dark_background, animation = computed_style("prefers-color-scheme", "dark")
        assert light_background != dark_background
        assert animation != "none"
        assert computed_style("prefers-reduced-motion", "reduce")[1] == "none"
    finally:
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_every_control_has_a_name_and_is_reached_with_tab(page) -> None:
    page.upload_cine()
    controls = page.driver.find_elements(By.CSS_SELECTOR, "button, input, summary, a[href]")
    visible = [control for control in controls if control.is_displayed() or control == page["file-input"]]
    page.run("document.activeElement.blur()")
    reached = []
    for _ in range(len(visible) + 5):
        ActionChains(page.driver).send_keys(Keys.TAB).perform()
        reached.append(page.driver.switch_to.active_element)
    for control in visible:
        assert control in reached, control.get_attribute("outerHTML")
        assert control.accessible_name.strip(), control.get_attribute("outerHTML")
