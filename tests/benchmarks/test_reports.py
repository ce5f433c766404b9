"""The committed reports follow from the stored figures, and `benchmarks.networks` compares model folders."""

import json

import pytest

from benchmarks import networks, report, scaling, soak
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


def test_record_replaces_the_figures_of_one_part(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(report, "FOLDER", tmp_path)
    monkeypatch.setattr(report, "describe_machine", lambda: {"cpu": "test"})
    for milliseconds in (1, 2):
        report.record("codecs", lambda value=milliseconds: [{"task": "read", "ms": value}])
    assert json.loads((tmp_path / "report.json").read_text()) == {
        "codecs": {"machine": {"cpu": "test"}, "figures": [{"task": "read", "ms": 2}]}
    }
    assert "`python -m benchmarks codecs` on cpu test" in (tmp_path / "report.md").read_text()


@pytest.mark.serial
def test_networks_compares_model_folders_with_the_first(model_folder, same_frame, monkeypatch, capsys) -> None:
    png = SampleUploads("PNG", "image/png", [same_frame["8-bit PNG"]])
    monkeypatch.setattr(networks, "make_sample_uploads", lambda: [png])
    monkeypatch.setattr(networks, "ROUNDS", 1)
    networks.main([str(model_folder), f"{model_folder}/."])
    _, _, *rows = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [row[:3] for row in cells] == [
        [str(model_folder), "tiny, float32", "none"],
        [f"{model_folder}/.", "tiny, float32", "none"],
    ]
    assert cells[0][-1] == "1.00"
