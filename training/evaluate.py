"""Stage evaluate: thresholds and calibration fitted on validation, then held-out frames scored at their own resolution.

The masks are those that the service would answer with this net: its network file, the same runtime, this decision.

`python -m training.evaluate NET` writes to reports/evaluate/NET
  metrics.json   the decision, and for validation and test the scores with their baselines
  figures.json   those few of them that candidates are compared by, in a terminal
  frames.csv     a row a frame
  table.md       test Dice with intervals, by size of nerve and of frame
  roc.csv        the presence decision on test: false and true positive rate
  reliability.png  how far presence and confidence on test may be believed
  sheet.png      the best, median and worst test frames
  worst.png      the ten worst
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
from pydantic import TypeAdapter
from rich.progress import track

from service.card import Decision, Input, Normalisation
from service.decision import certainty, decide, levels
from service.frame import Frame
from service.runtime import open_runtime
from service.segmenter import probabilities
from training import calibration, parameters, tracking
from training.baselines import MeanMask
from training.failures import verdict
from training.metrics import dice, hausdorff95, iou
from training.scores import groups, summary, table
from training.sources.layout import FRAMES, NERVE, Row, read_frame, read_labels, read_manifest
from training.split import rows_of
from training.train_unet import UNETS
from training.twins import have_twin
from training.whole import whole

REPORTS = Path("reports/evaluate")
FAINT = 0.6  # not fitted anew: chosen on held-out folds, where the frames of one validation are too few to tell
PARTS = (None, 2, 1)
PRESENCE_LEVELS = np.arange(0.0, 1.0, 0.05)
AREA_LEVELS = np.array([0.0, 0.001, 0.002, 0.004, 0.008])
SHOWN = 4  # of the best, the median and the worst frames each
WORST = 10

# frame -> probability of nerve float32 (height, width) of the frame, presence 0..1
Network = Callable[[Frame], tuple[np.ndarray, float]]


def open_network(folder: Path, mirrored: bool) -> Network:
    """The network of a candidate's folder, as the service runs it; mirrored: asked twice, once left for right."""
    entry = json.loads((folder / "input.json").read_text())
    network = Input(entry["height"], entry["width"], Normalisation(**entry["normalisation"]))
    return partial(probabilities, open_runtime(folder, mirrored=mirrored), network)


def decision_of(figures: dict[str, Any]) -> Decision:
    """The decision that stands in a candidate's metrics.json."""
    return TypeAdapter(Decision).validate_json(json.dumps(figures["decision"]))


def in_order(work: Callable[[Row], Any], rows: list[Row], title: str) -> list[Any]:
    """`work` done on every row, several at a time, results in the order of the rows, under a progress bar."""
    with ThreadPoolExecutor() as threads:
        return list(track(threads.map(work, rows), title, total=len(rows)))


def fit_decision(network: Network, rows: list[Row]) -> Decision:
    """Calibration and limits by `rows`, which are validation's: those with the best mean Dice; of equals, the first,
    and of the presence that a mask needs, the one that `least_of` takes.

    A limit on the mask's parts or its area is set only where it raises the mean by more than its standard error
    (Breiman et al. 1984, section 3.4.3): with few frames, chance would set one every time.
    """

    def pixels(row: Row) -> tuple[np.ndarray, np.ndarray]:
        probability, _ = network(read_frame(FRAMES, row))
        return calibration.counted(levels(probability), read_labels(FRAMES, row).ravel() == NERVE)

    pixel = calibration.fit_pixels(in_order(pixels, rows, "pixels"))
    choices = [Decision(0.0, 0.0, parts, pixel_calibration=pixel, faint=FAINT) for parts in PARTS]

    def under_every_choice(row: Row) -> tuple[list[float], list[float], list[float], float, bool]:
        probability, presence = network(read_frame(FRAMES, row))
        truth = read_labels(FRAMES, row) == NERVE
        masks = [decide(probability, 1.0, choice) for choice in choices]
        certain = [certainty(probability, mask, pixel) or 0.0 for mask in masks]
        return [dice(m > 0, truth) for m in masks], [(m > 0).mean() for m in masks], certain, presence, truth.any()

    columns = zip(*in_order(under_every_choice, rows, "thresholds"), strict=True)
    drawn, areas, certain, said, nerve = (np.array(column) for column in columns)  # (frames, parts), then (frames,)
    presence_calibration = calibration.fit_presence(said, nerve)
    presence = np.array([presence_calibration(value) for value in said])
    # By frame, presence level, area level and parts.
    kept = (presence[:, np.newaxis] >= PRESENCE_LEVELS)[:, :, np.newaxis, np.newaxis] & (
        areas[:, np.newaxis] >= AREA_LEVELS[:, np.newaxis]
    )[:, np.newaxis]
    reached = np.where(kept, drawn[:, np.newaxis, np.newaxis], ~nerve.reshape(-1, 1, 1, 1))
    limits = (AREA_LEVELS > 0)[:, np.newaxis] + np.array([parts is not None for parts in PARTS], int)
    limits = np.broadcast_to(limits, reached.shape[1:])
    choice = simplest(reached.reshape(len(reached), -1), limits.ravel())
    _, least_area, parts = (int(at) for at in np.unravel_index(choice, limits.shape))
    least_presence = least_of(reached[:, :, least_area, parts].mean(axis=0), bool(nerve.all()))
    shown = kept[:, least_presence, least_area, parts] & (areas[:, parts] > 0)
    return Decision(
        round(float(PRESENCE_LEVELS[least_presence]), 4),
        float(AREA_LEVELS[least_area]),
        PARTS[parts],
        presence_calibration,
        pixel,
        calibration.fit_certainty(certain[shown, parts], drawn[shown, parts]),
        FAINT,
    )


def least_of(reached: np.ndarray, always: bool) -> int:
    """Which level, of those that reach the most: where a gap lies between frames with and without a nerve, its middle.

    Where all hold one, how far the gap goes up is not known, and each frame lost is a nerve missed: the first level
    above none, which black, white and noise stay below (docs/accuracy.md).

    reached: mean Dice, float (levels,). always: whether each frame holds a nerve.
    """
    best = np.flatnonzero(np.isclose(reached, reached.max()))
    return int(best[:2][-1] if always else best[len(best) // 2])


def simplest(reached: np.ndarray, limits: np.ndarray) -> int:
    """Which of the choices: the best mean among those with the fewest limits within a standard error of the best.

    reached: Dice, float (frames, choices). limits: how many each has, int (choices,). The error is of the difference
    from frame to frame. Of equals, the first.
    """
    means = reached.mean(axis=0)
    best = reached[:, means.argmax()]
    for count in np.unique(limits):
        choice = int(np.where(limits == count, means, -1.0).argmax())
        short = best - reached[:, choice]
        if short.mean() <= short.std() / len(short) ** 0.5:
            break
    return choice


def score(
    network: Network, decision: Decision, mean_mask: MeanMask, rows: list[Row], title: str = "scoring"
) -> pd.DataFrame:
    """A row a frame: what the served mask scores, and what the baselines would."""

    def of(row: Row) -> dict[str, Any]:
        probability, presence = network(read_frame(FRAMES, row))
        decided = decide(probability, presence, decision)
        certain = certainty(probability, decided, decision.pixel_calibration)
        mask, truth = decided > 0, read_labels(FRAMES, row) == NERVE
        return {
            "frame": row.frame,
            "subject": row.subject,
            **verdict(mask, truth),
            "presence": decision.presence_calibration(presence),
            "confidence": np.nan if certain is None else decision.certainty_calibration(certain),
            "iou": iou(mask, truth),
            "hausdorff95_px": hausdorff95(mask, truth),
            "dice_empty": float(not truth.any()),
            "dice_mean_mask": dice(mean_mask.at(*truth.shape), truth),
        }

    return pd.DataFrame(in_order(of, rows, title))


def dices(network: Network, decision: Decision, rows: list[Row], title: str) -> np.ndarray:
    """Of the masks that the service would answer, at the frames' own resolution: float (N,)."""

    def of(row: Row) -> float:
        return dice(decide(*network(read_frame(FRAMES, row)), decision) > 0, read_labels(FRAMES, row) == NERVE)

    return np.array(in_order(of, rows, title))


def shown_frames(scores: pd.DataFrame) -> dict[str, dict[str, list[str]]]:
    """The frames on each sheet, by its rows: those with a nerve, or all where none has one, by their Dice."""
    with_nerve = scores[scores["nerve"]] if scores["nerve"].any() else scores
    ranked = list(with_nerve.sort_values("dice", ascending=False, kind="stable")["frame"])
    middle = max(0, len(ranked) // 2 - SHOWN // 2)
    worst = ranked[: -WORST - 1 : -1]
    return {
        "sheet": {"best": ranked[:SHOWN], "median": ranked[middle : middle + SHOWN], "worst": ranked[-SHOWN:]},
        "worst": {"worst": worst[: WORST // 2], "less so": worst[WORST // 2 :]},
    }


def write_sheet(
    path: Path, network: Network, decision: Decision, scores: pd.DataFrame, chosen: dict[str, list[str]]
) -> None:
    """Scored frames in rows: truth and mask as outlines, with each frame's Dice."""
    from training.pictures import sheet

    rows = {row.frame: row for row in read_manifest(FRAMES)}
    of_frame = scores.set_index("frame")

    def panel(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
        frame = read_frame(FRAMES, rows[name])
        mask = decide(*network(frame), decision) > 0
        scored = of_frame.loc[name]
        caption = f"{Path(name).stem}\nDice {scored['dice']:.2f} {scored['failure']}"
        return frame.pixels, read_labels(FRAMES, rows[name]) == NERVE, mask, caption

    sheet(path, {title: [panel(name) for name in names] for title, names in chosen.items()})


def write_roc(path: Path, scores: pd.DataFrame) -> None:
    """The presence decision's curve; where all frames hold a nerve, or none does, the diagonal alone."""
    from sklearn.metrics import roc_curve

    false_positive, true_positive = np.array([0.0, 1.0]), np.array([0.0, 1.0])
    if scores["nerve"].nunique() == 2:
        false_positive, true_positive, _ = roc_curve(scores["nerve"], scores["presence"])
    pd.DataFrame({"false_positive": false_positive, "true_positive": true_positive}).to_csv(path, index=False)


def compared(figures: dict[str, Any]) -> dict[str, float | None]:
    """What `dvc metrics show` has room for."""
    test = figures["test"]
    shown = {"test": "dice", "test_median": "dice_median", "lost": "dice_lost", "presence_auc": "presence_auc"}
    shown |= {"empty_mask": "baseline_empty", "mean_mask": "baseline_mean_mask"}
    return {"validation": figures["validation"]["dice"]} | {name: test[key] for name, key in shown.items()}


def log(folder: Path, figures: dict[str, Any]) -> None:
    """The figures and pictures to the MLflow run that trained the network."""
    import mlflow

    # The decision, too: a run's parameters can never be written again, and it may be scored anew.
    for of in ("validation", "test", "decision"):
        numbers = {name: value for name, value in tracking.flat(figures[of]).items() if value is not None}
        mlflow.log_metrics({f"{of}_{name}": value for name, value in numbers.items()})
    mlflow.log_artifacts(str(folder), "evaluation")


def main(name: str) -> None:
    trained = UNETS / name
    mirrored = parameters.candidate(name).mirrored
    network, validation = open_network(trained, mirrored), rows_of("validation")
    decision = fit_decision(network, validation)
    training, test = rows_of("train"), rows_of("test")
    mean_mask = MeanMask.of(training)
    scores = {
        "validation": score(network, decision, mean_mask, validation, "scoring validation"),
        "test": score(network, decision, mean_mask, test, "scoring test").assign(twin=have_twin(test, training)),
    }

    with whole(REPORTS / name) as folder:
        figures: dict[str, Any] = {
            "data": tracking.data_digest(),
            "mirrored": mirrored,
            "decision": dataclasses.asdict(decision),
            **{split: summary(scored) for split, scored in scores.items()},
            "groups": groups(scores["test"]),
        }
        (folder / "metrics.json").write_text(json.dumps(figures, indent=2) + "\n")
        (folder / "figures.json").write_text(json.dumps(compared(figures), indent=2) + "\n")
        pd.concat(scores, names=["split"]).reset_index(level="split").to_csv(folder / "frames.csv", index=False)
        write_roc(folder / "roc.csv", scores["test"])
        (folder / "table.md").write_text(table(figures["groups"]))
        calibration.reliability(folder / "reliability.png", scores["test"])
        for page, chosen in shown_frames(scores["test"]).items():
            write_sheet(folder / f"{page}.png", network, decision, scores["test"], chosen)
        with tracking.resumed(trained / "unet.onnx") as known:
            if known:
                log(folder, figures)
    print(f"{name}: test Dice {figures['test']['dice']}, validation {figures['validation']['dice']}")


if __name__ == "__main__":
    main(sys.argv[1])
