"""The model card on the page."""

import shutil
from dataclasses import replace

import pytest

from service.model.card import Card
from tests.conftest import serving
from tests.service.api.page.page_object import Page

pytestmark = pytest.mark.browser


def test_the_card_shows_the_model_and_its_metrics(page, card) -> None:
    page["open-card"].click()
    page.wait(page["card"].is_displayed, "the card")
    text = page["card"].text
    for expected in (
        *(card.name, card.version, card.candidate, card.run_id, card.commit, card.intended_use),
        *("phantom", "CPU", "U-Net, own encoder; loss Soft dice, up to 3 epochs"),
        *("Small nerve, 9 frames", "0.610 (0.520 to 0.730)"),
        "Dice, mean 0.8125 (0.75 to 0.875)",
        "Presence: area under the ROC curve not defined for these frames",
        "Missed, 2 test frames: The frame has a nerve, but the mask is empty.",
    ):
        assert expected in text
    assert "[object" not in text
    assert "undefined" not in text
    page.wait(lambda: page["worst-frames"].get_property("naturalWidth") == 80, "the worst frames")
    page["close-card"].click()
    assert not page["card"].is_displayed()


def test_the_card_says_why_it_has_no_commit(browser, model_folder, tmp_path) -> None:
    folder = shutil.copytree(model_folder, tmp_path / "champion")
    replace(Card.read(folder), commit="", dirty=True, commit_error="git is not installed").write(folder)
    with serving(folder, tmp_path) as server:
        browser.get(f"{server.address}/")
        page = Page(browser, tmp_path)
        page["open-card"].click()
        page.wait(page["card"].is_displayed, "the card")
        facts = page["card-facts"].text.splitlines()
        assert facts[facts.index("Commit") + 1] == "not recorded: git is not installed"
