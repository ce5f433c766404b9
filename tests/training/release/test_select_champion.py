"""Which candidate becomes the champion, and when there is none."""

import pytest

from training.release.candidate_comparison import NoChampionError
from training.release.select_champion import choose_champion


def evaluation(validation: float, test: float = 0.5, empty: float = 0.5, mean: float = 0.4) -> dict:
    baselines = {"baseline_empty": empty, "baseline_mean_mask": mean}
    return {"validation": {"dice": validation, **baselines}, "test": {"dice": test, **baselines}}


def test_the_champion_has_the_best_validation_dice_whatever_its_test_dice_is():
    assert choose_champion({"a": evaluation(0.7, test=0.9), "b": evaluation(0.8, test=0.1)}) == "b"


@pytest.mark.parametrize("baselines", [{"empty": 0.6, "mean": 0.1}, {"empty": 0.1, "mean": 0.6}])
def test_there_is_no_champion_below_either_baseline(baselines):
    with pytest.raises(NoChampionError, match=r"best candidate, a, has a validation Dice of 0\.55"):
        choose_champion({"a": evaluation(0.55, **baselines)})
