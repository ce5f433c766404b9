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
    ("race", "runs"), [(["light"], ["light"]), (["old", "light", "deep"], ["light"]), (["old"], [])]
)
def test_only_the_race_runs_with_figures_of_the_present_data(tmp_path, monkeypatch, capsys, race, runs):
    """Whatever else was left from before; who does not run is named."""
    monkeypatch.setattr(champion, "REPORTS", tmp_path)
    monkeypatch.setattr(champion.tracking, "data_digest", lambda: "now")
    for name, data in {"light": "now", "better": "now", "old": "before"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").write_text(json.dumps({"data": data}))
    if runs:
        assert list(champion.evaluated(race)) == runs
    else:
        with pytest.raises(NoChampionError, match="no candidate was scored"):
            champion.evaluated(race)
    told = capsys.readouterr().out
    assert [name for name in race if f"{name} is left out" in told] == [name for name in race if name not in runs]
