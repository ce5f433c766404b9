"""Who becomes champion, and who does not."""

import json

import pytest

from training import champion
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


@pytest.mark.parametrize(
    ("race", "told"), [(["light"], None), (["light", "old"], "old was not scored"), (["deep"], "deep was not scored")]
)
def test_only_the_race_runs_and_all_of_it(tmp_path, monkeypatch, race, told):
    """Whatever else was left from before."""
    monkeypatch.setattr(champion, "REPORTS", tmp_path)
    monkeypatch.setattr(champion.tracking, "data_digest", lambda: "now")
    for name, data in {"light": "now", "better": "now", "old": "before"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").write_text(json.dumps({"data": data}))
    if told is None:
        assert list(champion.evaluated(race)) == race
    else:
        with pytest.raises(NoChampionError, match=told):
            champion.evaluated(race)
