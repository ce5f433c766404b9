"""Which candidate becomes the champion, and when there is none."""

import json

import pytest

from training.release import candidate_comparison
from training.release.candidate_comparison import NoChampionError, choose_champion, read_evaluations
from training.workspace import paths


def evaluation(validation: float, test: float = 0.5, empty: float = 0.5, mean: float = 0.4) -> dict:
    baselines = {"baseline_empty": empty, "baseline_mean_mask": mean}
    return {"validation": {"dice": validation, **baselines}, "test": {"dice": test, **baselines}}


def test_the_champion_has_the_best_validation_dice_whatever_its_test_dice_is():
    assert choose_champion({"a": evaluation(0.7, test=0.9), "b": evaluation(0.8, test=0.1)}) == "b"


@pytest.mark.parametrize("baselines", [{"empty": 0.6, "mean": 0.1}, {"empty": 0.1, "mean": 0.6}])
def test_there_is_no_champion_below_either_baseline(baselines):
    with pytest.raises(NoChampionError, match=r"best candidate, a, has a validation Dice of 0\.55"):
        choose_champion({"a": evaluation(0.55, **baselines)})


@pytest.mark.parametrize(
    ("candidates", "expected"), [(["light"], ["light"]), (["old", "light", "deep"], ["light"]), (["old"], [])]
)
def test_only_candidates_with_an_evaluation_on_the_present_data_are_read(
    tmp_path, monkeypatch, capsys, candidates, expected
):
    """The candidates of params.yaml alone are read, and each one that is left out is printed."""
    monkeypatch.setattr(paths, "EVALUATION", tmp_path)
    monkeypatch.setattr(candidate_comparison.tracking, "data_digest", lambda: "now")
    for name, data in {"light": "now", "better": "now", "old": "before"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").write_text(json.dumps({"data": data}))
    if expected:
        assert list(read_evaluations(candidates)) == expected
    else:
        with pytest.raises(NoChampionError, match="no candidate has an evaluation"):
            read_evaluations(candidates)
    output = capsys.readouterr().out
    left_out = [name for name in candidates if f"{name} is left out" in output]
    assert left_out == [name for name in candidates if name not in expected]
