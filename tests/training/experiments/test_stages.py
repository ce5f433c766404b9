"""training/experiments/dvc.yaml: the stages keep finished trainings, and each report depends on all of them."""

import pytest
import yaml

from tests.project_copy import ROOT, project_copy, run

pytestmark = pytest.mark.slow

STAGES = "training/experiments/dvc.yaml"
OUTPUT_FOLDERS = ("data/", "reports/")


@pytest.fixture(scope="module")
def parameters() -> dict:
    return yaml.safe_load((ROOT / "params.yaml").read_text())


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory, parameters: dict) -> str:
    """All stages of the project in DOT, with an arrow from each stage to every stage that depends on it."""
    project = project_copy(tmp_path_factory.mktemp("project"), parameters)
    return run(project, "dvc", "dag", "--dot")


def test_the_cross_validation_report_needs_each_candidate(graph: str, parameters: dict) -> None:
    for candidate in parameters["nerve"]["candidates"]:
        stage = f"{STAGES}:cross_validation@{candidate}"
        assert f'"{stage}" -> "{STAGES}:cross_validation_report"' in graph
        assert f'"split" -> "{stage}"' in graph


def test_a_stage_keeps_the_trainings_that_it_finished() -> None:
    stages = yaml.safe_load((ROOT / STAGES).read_text())["stages"]
    for name in ("cross_validation", "ablation"):
        (out,) = stages[name].get("do", stages[name])["outs"]
        assert list(out.values()) == [{"persist": True}]


def test_the_ablation_report_needs_each_ablation(graph: str, parameters: dict) -> None:
    for name in parameters["nerve"]["ablations"]["changes"]:
        assert f'"{STAGES}:ablation@{name}" -> "{STAGES}:ablation_report"' in graph


def test_every_dependency_is_a_file_of_the_project_or_an_output() -> None:
    stages = yaml.safe_load((ROOT / STAGES).read_text())["stages"]
    dependencies = {path for stage in stages.values() for path in stage.get("do", stage)["deps"]}
    assert [path for path in dependencies if not (ROOT / path).exists() and not path.startswith(OUTPUT_FOLDERS)] == []
