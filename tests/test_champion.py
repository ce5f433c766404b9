"""Who becomes champion, and who does not."""

import pytest

from training.champion import NoChampionError, choose


def reached(validation: float, test: float = 0.5, empty: float = 0.5, mean: float = 0.4) -> dict:
    scores = {"baseline_empty": empty, "baseline_mean_mask": mean}
    return {"validation": {"dice": validation, **scores}, "test": {"dice": test, **scores}}


def test_the_best_by_validation_wins_whatever_the_test_split_says():
    assert choose({"a": reached(0.7, test=0.9), "b": reached(0.8, test=0.1)}) == "b"


@pytest.mark.parametrize("baselines", [{"empty": 0.6, "mean": 0.1}, {"empty": 0.1, "mean": 0.6}])
def test_no_champion_below_either_baseline(baselines):
    with pytest.raises(NoChampionError, match=r"best candidate, a, reached a validation Dice of 0\.55"):
        choose({"a": reached(0.55, **baselines)})
