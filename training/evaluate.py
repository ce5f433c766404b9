"""Stage evaluate: thresholds fitted on validation, then every held-out frame scored at its own resolution.

The masks are those that the service would answer: the same network file, the same runtime, the same decision.

`python -m training.evaluate NET` writes to reports/evaluate/NET
  metrics.json   the decision, and for validation and test the scores with their baselines
  frames.csv     a row a frame
  roc.csv        the presence decision on test: false and true positive rate
  sheet.png      the best, median and worst test frames
"""

import dataclasses
import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.progress import track

from service.card import Decision, Input, Normalisation
from service.frame import Frame
from service.runtime import open_runtime
from service.segmenter import decide, probabilities
from training import tracking
from training.baselines import MeanMask
from training.metrics import dice, hausdorff95, iou
from training.sources.layout import FRAMES, NERVE, Row, read_frame, read_labels
from training.split import rows_of
from training.train_unet import UNETS
from training.whole import whole

REPORTS = Path("reports/evaluate")
MASK_LEVELS = np.arange(0.2, 0.81, 0.05)
PRESENCE_LEVELS = np.arange(0.0, 1.0, 0.05)
AREA_LEVELS = np.array([0.0, 0.001, 0.002, 0.004, 0.008])
SHOWN = 4  # of the best, the median and the worst frames each

# frame -> probability of nerve float32 (height, width) of the frame, presence 0..1
Network = Callable[[Frame], tuple[np.ndarray, float]]


def open_network(folder: Path) -> Network:
    """The network of a candidate's folder, as the service runs it."""
    entry = json.loads((folder / "input.json").read_text())
    network = Input(entry["height"], entry["width"], Normalisation(**entry["normalisation"]))
    return partial(probabilities, open_runtime(folder), network)


def in_order(work: Callable[[Row], Any], rows: list[Row], title: str) -> list[Any]:
    """`work` done on every row, several at a time, results in the order of the rows, under a progress bar."""
    with ThreadPoolExecutor() as threads:
        return list(track(threads.map(work, rows), title, total=len(rows)))


def fit_decision(network: Network, rows: list[Row]) -> Decision:
    """The thresholds with the best mean Dice over `rows`, which are validation's; of equals, the lowest."""

    def scores_by_level(row: Row) -> tuple[np.ndarray, np.ndarray, float, float]:
        probability, presence = network(read_frame(FRAMES, row))
        truth = read_labels(FRAMES, row) == NERVE
        masks = [probability >= level for level in MASK_LEVELS]
        areas = np.array([mask.mean() for mask in masks])
        return np.array([dice(mask, truth) for mask in masks]), areas, presence, float(not truth.any())

    scored = in_order(scores_by_level, rows, "thresholds")
    drawn, areas, presence, empty = (np.array(column) for column in zip(*scored, strict=True))
    best, decision = -1.0, Decision(0.0, 0.5, 0.0)
    for least_presence in PRESENCE_LEVELS:
        for least_area in AREA_LEVELS:
            kept = (presence >= least_presence)[:, np.newaxis] & (areas >= least_area)  # (frames, mask levels)
            means = np.where(kept, drawn, empty[:, np.newaxis]).mean(axis=0)
            if means.max() > best:
                best = float(means.max())
                levels = (least_presence, MASK_LEVELS[means.argmax()], least_area)
                decision = Decision(*(round(float(level), 4) for level in levels))
    return decision


def score(
    network: Network, decision: Decision, mean_mask: MeanMask, rows: list[Row], title: str = "scoring"
) -> pd.DataFrame:
    """A row a frame: what the served mask scores, and what the baselines would."""

    def of(row: Row) -> dict[str, Any]:
        probability, presence = network(read_frame(FRAMES, row))
        mask = decide(probability, presence, decision) > 0
        truth = read_labels(FRAMES, row) == NERVE
        return {
            "frame": row.frame,
            "subject": row.subject,
            "nerve": bool(truth.any()),
            "presence": presence,
            "dice": dice(mask, truth),
            "iou": iou(mask, truth),
            "hausdorff95_px": hausdorff95(mask, truth),
            "dice_empty": float(not truth.any()),
            "dice_mean_mask": dice(mean_mask.at(*truth.shape), truth),
        }

    return pd.DataFrame(in_order(of, rows, title))


def summary(scores: pd.DataFrame) -> dict[str, Any]:
    """The figures of one split. None stands where a figure does not exist: a curve without both kinds of frames."""
    from sklearn.metrics import roc_auc_score

    with_nerve = scores[scores["nerve"]]
    both = scores["nerve"].nunique() == 2
    figures = {
        "dice": scores["dice"].mean(),
        "dice_median": scores["dice"].median(),
        "dice_with_nerve": with_nerve["dice"].mean(),
        "iou": scores["iou"].mean(),
        "hausdorff95_px": scores["hausdorff95_px"].mean(),
        "presence_auc": roc_auc_score(scores["nerve"], scores["presence"]) if both else None,
        "baseline_empty": scores["dice_empty"].mean(),
        "baseline_mean_mask": scores["dice_mean_mask"].mean(),
    }
    rounded = {
        name: None if value is None or np.isnan(value) else round(float(value), 4) for name, value in figures.items()
    }
    return {"frames": len(scores), "frames_with_nerve": len(with_nerve), **rounded}


def write_sheet(path: Path, network: Network, decision: Decision, scores: pd.DataFrame) -> None:
    """The best, median and worst test frames with a nerve: truth and mask as outlines, with each frame's Dice."""
    from training.pictures import sheet

    by_dice = scores.sort_values("dice", ascending=False, kind="stable")
    ranked = [str(frame) for frame in by_dice.loc[by_dice["nerve"], "frame"]] or [
        str(frame) for frame in by_dice["frame"]
    ]
    middle = max(0, len(ranked) // 2 - SHOWN // 2)
    chosen = {"best": ranked[:SHOWN], "median": ranked[middle : middle + SHOWN], "worst": ranked[-SHOWN:]}
    rows = {row.frame: row for row in rows_of("test")}
    dices = dict(zip(scores["frame"], scores["dice"], strict=True))

    def panel(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
        frame = read_frame(FRAMES, rows[name])
        mask = decide(*network(frame), decision) > 0
        return (
            frame.pixels,
            read_labels(FRAMES, rows[name]) == NERVE,
            mask,
            f"{Path(name).stem}  Dice {dices[name]:.2f}",
        )

    sheet(path, {title: [panel(name) for name in names] for title, names in chosen.items()})


def write_roc(path: Path, scores: pd.DataFrame) -> None:
    """The presence decision's curve; where all frames hold a nerve, or none does, the diagonal alone."""
    from sklearn.metrics import roc_curve

    false_positive, true_positive = np.array([0.0, 1.0]), np.array([0.0, 1.0])
    if scores["nerve"].nunique() == 2:
        false_positive, true_positive, _ = roc_curve(scores["nerve"], scores["presence"])
    pd.DataFrame({"false_positive": false_positive, "true_positive": true_positive}).to_csv(path, index=False)


def log(folder: Path, figures: dict[str, Any]) -> None:
    """The figures and pictures to the MLflow run that trained the network."""
    import mlflow

    for split in ("validation", "test"):
        numbers = {name: value for name, value in figures[split].items() if value is not None}
        mlflow.log_metrics({f"{split}_{name}": value for name, value in numbers.items()})
    mlflow.log_params({f"decision.{name}": value for name, value in figures["decision"].items()})
    mlflow.log_artifacts(str(folder), "evaluation")


def main(name: str) -> None:
    trained = UNETS / name
    network = open_network(trained)
    validation, test = rows_of("validation"), rows_of("test")
    decision = fit_decision(network, validation)
    mean_mask = MeanMask.of(rows_of("train"))
    scores = {
        split: score(network, decision, mean_mask, rows, f"scoring {split}")
        for split, rows in {"validation": validation, "test": test}.items()
    }

    with whole(REPORTS / name) as folder:
        figures: dict[str, Any] = {
            "data": tracking.data_digest(),
            "decision": dataclasses.asdict(decision),
            **{split: summary(table) for split, table in scores.items()},
        }
        (folder / "metrics.json").write_text(json.dumps(figures, indent=2) + "\n")
        pd.concat(scores, names=["split"]).reset_index(level="split").to_csv(folder / "frames.csv", index=False)
        write_roc(folder / "roc.csv", scores["test"])
        write_sheet(folder / "sheet.png", network, decision, scores["test"])
        with tracking.resumed(trained / "unet.onnx") as known:
            if known:
                log(folder, figures)
    print(f"{name}: test Dice {figures['test']['dice']}, validation {figures['validation']['dice']}")


if __name__ == "__main__":
    main(sys.argv[1])
