"""Is the model as good as a second expert? Dice of each pair of raters, and of the model with each rater.

Experts disagree: on nerves in six regions of the body they reach a mean Dice of 0.48 with each other, and a commercial
system 0.41 with them (PMC11103080). The Dice of a model with one rater means little without that of another rater on
the same frames.
"""

import itertools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from training.evaluation.bootstrap import bootstrap_interval
from training.evaluation.segmentation_metrics import dice
from training.evaluation.summary import format_interval, mean_difference

MODEL = "model"
ALL_FRAMES = "all"
MODEL_COLOUR, PEOPLE_COLOUR = "tab:orange", "tab:blue"
PEOPLE = "people"
DIFFERENCE = "model with people, less people with each other"


def pairwise_dice(masks: Mapping[str, np.ndarray]) -> dict[tuple[str, str], float]:
    """Return the Dice of each pair of raters on one frame. masks: by rater, bool (height, width)."""
    return {(first, second): dice(masks[first], masks[second]) for first, second in itertools.combinations(masks, 2)}


def add_means(pairs: pd.DataFrame) -> pd.DataFrame:
    """Return the table with two more columns: the mean Dice of people with each other, and of the model with people.

    pairs: a row for each frame, a column for each pair of raters. One of the raters is MODEL.
    """
    with_model = [pair for pair in pairs.columns if MODEL in pair]
    people = [pair for pair in pairs.columns if MODEL not in pair]
    scores = {" with ".join(pair): pairs[pair] for pair in pairs.columns}
    scores[f"{PEOPLE} with {PEOPLE}"] = pairs[people].mean(axis=1)
    scores[f"{MODEL} with {PEOPLE}"] = pairs[with_model].mean(axis=1)
    return pd.DataFrame(scores)


def agreement_table(scores: pd.DataFrame, regions: pd.Series) -> pd.DataFrame:
    """Return a table of texts: a row for each region and column of `add_means`, and one for the difference.

    The interval is the 95 % percentile bootstrap over frames. If the lower bound of the difference is above -0.05, for
    example, the model agrees with people at most 0.05 less than people agree with each other.

    scores: of `add_means`. regions: the region of each frame, with the index of `scores`.
    """
    rows = []
    for region, frames in [(ALL_FRAMES, scores), *scores.groupby(regions)]:
        for name, values in frames.items():
            low, high = bootstrap_interval(values, np.mean)
            interval = {"dice": values.mean(), "dice_low": low, "dice_high": high}
            rows.append((region, len(frames), name, format_interval(interval, "dice")))
        difference = mean_difference(frames[f"{MODEL} with {PEOPLE}"], frames[f"{PEOPLE} with {PEOPLE}"])
        rows.append((region, len(frames), DIFFERENCE, format_interval(difference, "difference", sign="+")))
    return pd.DataFrame(rows, columns=["region", "frames", "raters", "mean Dice (95 %)"])


def plot_agreement(path: Path, scores: pd.DataFrame) -> None:
    """Write a PNG with a box plot for each column of `add_means`: median, quartiles, and the Dice of each frame."""
    figure = Figure(figsize=(8, 0.5 * len(scores.columns) + 1.2), layout="constrained")
    axes = figure.subplots()
    columns = scores[scores.columns[::-1]]
    axes.boxplot(columns.to_numpy(), orientation="horizontal", tick_labels=columns.columns.to_list(), showfliers=False)
    spread = np.random.default_rng(0).uniform(-0.15, 0.15, columns.shape)
    for position, name in enumerate(columns.columns, 1):
        axes.scatter(
            columns[name],
            position + spread[:, position - 1],
            s=8,
            color=MODEL_COLOUR if MODEL in name else PEOPLE_COLOUR,
        )
    axes.set(xlabel="Dice of a frame", xlim=(-0.02, 1.02))
    figure.savefig(path, dpi=110, metadata={"Software": None})
