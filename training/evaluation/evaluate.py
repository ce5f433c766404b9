"""Stage evaluate: fit postprocessing on validation, then score validation and test frames at their own resolution.

The masks are those that the service would answer: the stage uses the same network file, runtime and postprocessing.

`python -m training.evaluation.evaluate CANDIDATE` writes to reports/evaluate/CANDIDATE
  metrics.json     postprocessing, and the metrics of validation and test with their baselines
  frames.csv       a row per frame
  table.md         test Dice with intervals, by subgroup
  roc.csv          ROC curve of presence on test
  reliability.png  calibration of presence and confidence on test
  sheet.png        the best, median and worst test frames
  worst.png        the ten worst test frames
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd

from service.model.postprocessing_config import PostprocessingConfig
from training.data.near_duplicates import mark_near_duplicates
from training.data.split_table import rows_of_split
from training.evaluation.baselines import MeanMask
from training.evaluation.conformal_outlines_fit import summarize_outlines
from training.evaluation.example_sheets import select_examples, write_sheet
from training.evaluation.frame_scores import score
from training.evaluation.inference import Network, open_network
from training.evaluation.postprocessing_fit import fit_postprocessing
from training.evaluation.reliability_plot import plot_reliability
from training.evaluation.summary import subgroup_table, summarize, summarize_subgroups, to_markdown
from training.workspace import nerve_parameters, paths, provenance, tracking
from training.workspace.dvc_matrix_item import stage_item
from training.workspace.output_checksums import check_outputs, output_folder


def main(candidate: str) -> None:
    trained, tta = paths.UNETS / candidate, nerve_parameters.read_candidate(candidate).tta
    check_outputs(paths.FRAMES, paths.SPLIT, trained)
    network = open_network(trained, tta)
    config = fit_postprocessing(network, rows_of_split("validation"))
    scores = _score_splits(network, config)
    metrics: dict[str, Any] = {
        "data": provenance.data_digest(),
        "tta": tta,
        "postprocessing": dataclasses.asdict(config),
        "validation": summarize(scores["validation"]),
        "test": summarize(scores["test"]) | summarize_outlines(scores["test"]),
        "groups": summarize_subgroups(scores["test"]),
    }
    with output_folder(paths.EVALUATION / candidate) as folder:
        (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
        pd.concat(scores, names=["split"]).reset_index(level="split").to_csv(folder / "frames.csv", index=False)
        (folder / "table.md").write_text(to_markdown(subgroup_table(metrics["groups"])))
        _write_roc(folder / "roc.csv", scores["test"])
        plot_reliability(folder / "reliability.png", scores["test"])
        for sheet, examples in select_examples(scores["test"]).items():
            write_sheet(folder / f"{sheet}.png", network, config, scores["test"], examples)
        with tracking.resume_run(trained / "unet.onnx") as run_exists:
            if run_exists:
                _log_to_mlflow(folder, metrics)
    print(f"{candidate}: test Dice {metrics['test']['dice']}, validation Dice {metrics['validation']['dice']}")


def _score_splits(network: Network, config: PostprocessingConfig) -> dict[str, pd.DataFrame]:
    """Score validation and test frames. For test frames, also mark near-duplicates of training frames."""
    training, validation, test = (rows_of_split(split) for split in ("train", "validation", "test"))
    mean_mask = MeanMask.fit(training)
    return {
        "validation": score(network, config, mean_mask, validation, "scoring validation"),
        "test": score(network, config, mean_mask, test, "scoring test").assign(
            near_duplicate=mark_near_duplicates(test, training)
        ),
    }


def _write_roc(path: Path, scores: pd.DataFrame) -> None:
    """Write the ROC curve of presence, or the diagonal if all frames show a nerve or none does."""
    from sklearn.metrics import roc_curve

    false_positive, true_positive = np.array([0.0, 1.0]), np.array([0.0, 1.0])
    if scores["nerve"].nunique() == 2:
        false_positive, true_positive, _ = roc_curve(scores["nerve"], scores["presence"])
    pd.DataFrame({"false_positive": false_positive, "true_positive": true_positive}).to_csv(path, index=False)


def _log_to_mlflow(folder: Path, metrics: dict[str, Any]) -> None:
    """Add metrics and files to the MLflow run that trained the network.

    Postprocessing is logged as metrics: MLflow never overwrites a run's parameters, and the stage may run again.
    """
    for section in ("validation", "test", "postprocessing"):
        values = {name: value for name, value in tracking.flatten(metrics[section]).items() if value is not None}
        mlflow.log_metrics({f"{section}_{name}": value for name, value in values.items()})
    mlflow.log_artifacts(str(folder), "evaluation")


if __name__ == "__main__":
    main(stage_item())
