"""The model card on the page."""

import pytest

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
