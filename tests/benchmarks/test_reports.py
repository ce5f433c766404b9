"""The committed reports follow from the stored figures, and `benchmarks.model_latency` compares model folders."""

import json

import pytest

from benchmarks import model_latency, report, scaling, soak
from benchmarks.sample_uploads import SampleUploads

REPORTS = sorted(report.FOLDER.glob("*.json"))


@pytest.mark.slow
@pytest.mark.parametrize("stored", REPORTS, ids=lambda path: path.stem)
def test_a_committed_report_is_rendered_from_the_stored_figures(stored, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(report, "FOLDER", tmp_path)
    monkeypatch.setattr(scaling, "PLOT", tmp_path / "scaling.png")
    monkeypatch.setattr(soak, "PLOT", tmp_path / "soak.png")
    (tmp_path / stored.name).write_text(stored.read_text())
    report.render(stored.stem)
    assert (tmp_path / f"{stored.stem}.md").read_text() == stored.with_suffix(".md").read_text()


def test_record_replaces_the_figures_of_one_part_and_kind_of_machine(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(report, "FOLDER", tmp_path)
    for cpu, milliseconds in (("a", 1.0), ("b", 5.0), ("a", 2.0)):
        machine = {"cpu": cpu, "date": "2026-11-29", "commit": "abc"}
        monkeypatch.setattr(report, "describe_machine", lambda value=machine: value)
        report.record("codecs", lambda value=milliseconds: [{"task": "read", "ms": value}])
    entries = json.loads((tmp_path / "report.json").read_text())["codecs"]
    assert [(entry["machine"]["cpu"], entry["figures"][0]["ms"]) for entry in entries] == [("a", 2.0), ("b", 5.0)]
    assert "`python -m benchmarks codecs` on cpu a" in (tmp_path / "report.md").read_text()
    output = capsys.readouterr().out
    assert output.count("Slower than on 2026-11-29 (commit abc):\n  read ms: 1, now 2\n") == 1


def test_times_and_rates_that_became_worse_are_named() -> None:
    old = {"rows": [{"server": "ours", "median_ms": 10.0, "per_second": 100.0, "refused": 0}], "ready_seconds": 2.0}
    new = {"rows": [{"server": "ours", "median_ms": 11.0, "per_second": 80.0, "refused": 9}], "ready_seconds": 2.5}
    assert report.slower_figures(old, new) == [
        "  rows ours per_second: 100, now 80",
        "  ready_seconds: 2, now 2.5",
    ]


@pytest.mark.serial
def test_model_latency_compares_model_folders_with_the_first(model_folder, same_frame, monkeypatch, capsys) -> None:
    png = SampleUploads("PNG", "image/png", [same_frame["8-bit PNG"]])
    monkeypatch.setattr(model_latency, "make_sample_uploads", lambda: [png])
    monkeypatch.setattr(model_latency, "ROUNDS", 1)
    model_latency.main([str(model_folder), f"{model_folder}/."])
    _, _, *rows = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [row[:3] for row in cells] == [
        [str(model_folder), "tiny, float32", "none"],
        [f"{model_folder}/.", "tiny, float32", "none"],
    ]
    assert cells[0][-1] == "1.00"
