"""Compare ablations with the base on the same frames."""

import pandas as pd

from training.evaluation.summary import LOW_DICE, format_interval, mean_difference, summarize_dice
from training.experiments.ablation_parameters import BASE, read_ablations
from training.workspace import paths
from training.workspace.output_checksums import check_outputs


def read_ablation_scores() -> pd.DataFrame:
    """Return the scored frames of all trained ablations of params.yaml, in its order.

    Raises SystemExit if the base is not trained, and DamagedOutputError.
    """
    trained = {name: sorted((paths.ABLATION / name).glob("*/frames.csv")) for name in read_ablations().changes}
    if not trained.get(BASE):
        raise SystemExit(
            "ablation_report: the base is not trained. Train it with "
            f"`dvc repro training/experiments/dvc.yaml:ablation@{BASE}`."
        )
    tables = [table for name in trained for table in trained[name]]
    check_outputs(*(table.parent for table in tables))
    return pd.concat(map(pd.read_csv, tables), ignore_index=True)


def compare_with_base(scores: pd.DataFrame) -> pd.DataFrame:
    """Return a row per ablation, indexed by its name.

    Columns: those of `summarize_dice`, the mean difference from the base on the same frames with its interval, minutes
    of training, and mean Dice by seed (a list). A difference within the range of the base's seeds may be chance.

    scores: columns ablation, frame, seed, dice, minutes. A frame with several seeds counts with its mean Dice.
    """
    by_frame = scores.pivot_table(index="frame", columns="ablation", values="dice", sort=False)
    rows = {}
    for name, dice in by_frame.items():
        ablation_scores = scores[scores["ablation"] == name]
        rows[name] = {
            **summarize_dice(dice.dropna()),
            **mean_difference(dice, by_frame[BASE]),
            f"dice_below_{LOW_DICE}": (ablation_scores["dice"] < LOW_DICE).mean(),  # without the mean over seeds
            "minutes": ablation_scores["minutes"].mean(),
            "by_seed": ablation_scores.groupby("seed")["dice"].mean().to_list(),
        }
    return pd.DataFrame(rows).T


def format_name(name: object) -> str:
    """Return an ablation's name with spaces in place of underscores."""
    return str(name).replace("_", " ")


def comparison_table(comparison: pd.DataFrame) -> pd.DataFrame:
    """Return the result of `compare_with_base` as a table of texts."""
    return pd.DataFrame(
        {
            "ablation": format_name(name),
            "mean Dice (95 %)": format_interval(row, "dice"),
            "difference from the base (95 %)": "" if name == BASE else format_interval(row, "difference", "+"),
            "by seed": ", ".join(f"{mean:.3f}" for mean in row["by_seed"]),
            f"below {LOW_DICE}": f"{row[f'dice_below_{LOW_DICE}']:.1%}",
            "minutes of training": f"{row['minutes']:.1f}",
        }
        for name, row in comparison.to_dict("index").items()
    )
