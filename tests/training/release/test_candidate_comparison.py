"""Which evaluations are compared."""

import json

import pytest

from training.release.candidate_comparison import NoChampionError, read_evaluations
from training.workspace import paths, provenance


@pytest.mark.parametrize(
    ("candidates", "expected"), [(["light"], ["light"]), (["old", "light", "deep"], ["light"]), (["old"], [])]
)
def test_only_candidates_with_an_evaluation_on_the_present_data_are_read(
    tmp_path, monkeypatch, capsys, candidates, expected
):
    """The candidates of params.yaml alone are read, and each one that is left out is printed."""
    monkeypatch.setattr(paths, "EVALUATION", tmp_path)
    monkeypatch.setattr(provenance, "data_digest", lambda: "now")
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
