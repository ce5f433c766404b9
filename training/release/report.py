"""Stage report: write one page about the champion for people, and add it to the evaluated model's MLflow run.

Writes reports/champion.html, which needs no other file. The page has cross-validation and ablations if
`dvc repro training/experiments/dvc.yaml:cross_validation_report` and `...:ablation_report` have made their reports.
"""

import json

import mlflow

from training.release.champion_page import render_page
from training.workspace import paths, tracking
from training.workspace.output_checksums import check_outputs


def main() -> None:
    check_outputs(paths.CANDIDATES)
    champion = json.loads(paths.CHAMPION.read_text())
    name = champion["candidate"]
    check_outputs(paths.FRAMES, paths.SPLIT, paths.UNETS / name, paths.EVALUATION / name, paths.REFIT)
    paths.CHAMPION_PAGE.write_text(render_page(champion))
    with tracking.resume_run(paths.UNETS / name / "unet.onnx") as run_exists:
        if run_exists:
            mlflow.log_artifact(str(paths.CHAMPION_PAGE))
    print(f"{paths.CHAMPION_PAGE}: the report on the champion, {name}")


if __name__ == "__main__":
    main()
