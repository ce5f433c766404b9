"""The content of the report on the champion: tables, plots, and the sections on cross-validation and ablations."""

import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from service.rendering.image_encoding import to_data_url
from training.data.licences import describe_licences
from training.data.split_table import rows_of_split
from training.evaluation.failure_modes import GOOD_DICE, count_failures
from training.evaluation.summary import LOW_DICE, format_interval, subgroup_table
from training.experiments import ablation_table, cross_validation_table
from training.experiments.ablation_parameters import BASE, ablation_candidates, read_ablations
from training.experiments.cross_validation_table import describe_leakage
from training.release.served_model_frames import served_model_rows
from training.workspace import nerve_parameters, paths, provenance
from training.workspace.nerve_parameters import Candidate
from training.workspace.output_checksums import check_outputs

TEMPLATE = Path(__file__).with_name("report.html")


def embed_png(path: Path) -> str:
    """Return a PNG file as a data URL."""
    return to_data_url(path.read_bytes(), "image/png")


def table_to_html(table: pd.DataFrame) -> str:
    """Return a table as HTML, with its cells escaped; empty for a table without rows."""
    from markupsafe import Markup

    return Markup("" if table.empty else table.to_html(index=False, border=0, justify="left"))


def candidate_table(evaluations: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Return one row for each candidate, the best on validation first."""
    ranked = sorted(evaluations.items(), key=lambda item: -item[1]["validation"]["dice"])
    return pd.DataFrame(
        {
            "candidate": name,
            "validation, mean": format_interval(evaluation["validation"], "dice"),
            "test, mean": format_interval(evaluation["test"], "dice"),
            "test, median": format_interval(evaluation["test"], "dice_median"),
            f"test, below {LOW_DICE}": f"{evaluation['test'][f'dice_below_{LOW_DICE}']:.1%}",
            "test, empty mask": f"{evaluation['test']['baseline_empty']:.3f}",
            "test, mean mask": f"{evaluation['test']['baseline_mean_mask']:.3f}",
        }
        for name, evaluation in ranked
    )


def plot_learning_curves(history: pd.DataFrame) -> str:
    """Plot loss and Dice by epoch on training and validation frames, as a data URL of a PNG."""
    figure, png = Figure(figsize=(9, 3), layout="constrained"), io.BytesIO()
    for axis, (name, title) in zip(figure.subplots(1, 2), {"loss": "loss", "mask_dice": "Dice"}.items(), strict=True):
        axis.plot(history["epoch"], history[name], label="training, augmented")
        axis.plot(history["epoch"], history[f"val_{name}"], label="validation")
        axis.set(xlabel="epoch", title=title)
        axis.legend(frameon=False, fontsize=8)
    figure.savefig(png, dpi=110, metadata={"Software": None})
    return to_data_url(png.getvalue(), "image/png")


def is_stale(scores: pd.DataFrame, candidate: Candidate) -> bool:
    """Return whether scored frames belong to other data, or to another recipe than the candidate's."""
    return set(scores.get("fingerprint", [])) != {provenance.fingerprint(candidate)}  # older tables have no fingerprint


def cross_validation_section() -> dict[str, Any]:
    """Return the template's values for cross-validation; {} if there is no report for the present data and recipes."""
    if not paths.CROSS_VALIDATION_REPORT.exists():
        return {}
    scores = cross_validation_table.read_fold_scores()
    if not scores or any(is_stale(table, nerve_parameters.read_candidate(name)) for name, table in scores.items()):
        return {}
    check_outputs(paths.CROSS_VALIDATION_REPORT)
    leakage = json.loads((paths.CROSS_VALIDATION_REPORT / "metrics.json").read_text())["leakage"]
    table = pd.read_csv(paths.CROSS_VALIDATION_REPORT / "table.csv", dtype=str, keep_default_na=False)
    return {
        "cross_validation_table": table_to_html(table),
        "leakage": describe_leakage(leakage, scores),
        "cross_validation_plot": embed_png(paths.CROSS_VALIDATION_REPORT / "folds.png"),
    }


def ablation_section() -> dict[str, Any]:
    """Return the template's values for ablations; {} if there is no report for the present data and recipes."""
    if not paths.ABLATION_REPORT.exists():
        return {}
    scores = pd.read_csv(paths.ABLATION_REPORT / "frames.csv")
    base = ablation_candidates(read_ablations())[BASE]
    if is_stale(scores[scores["ablation"] == BASE], base):
        return {}
    check_outputs(paths.ABLATION_REPORT)
    return {
        "ablation_table": table_to_html(ablation_table.comparison_table(ablation_table.compare_with_base(scores))),
        "ablation_plot": embed_png(paths.ABLATION_REPORT / "differences.png"),
    }


def render_page(champion: dict[str, Any]) -> str:
    """Return the page as HTML.

    champion: reports/candidates/champion.json.
    """
    from jinja2 import Environment

    name = champion["candidate"]
    evaluation, folder = champion["candidates"][name], paths.EVALUATION / name
    scores = pd.read_csv(folder / "frames.csv", keep_default_na=False)
    training_rows = rows_of_split("train")
    template = Environment(autoescape=True, trim_blocks=True).from_string(TEMPLATE.read_text())
    return template.render(
        champion=name,
        run=json.loads(paths.REFIT_RUN.read_text()),
        refit_frames=len(served_model_rows()) if nerve_parameters.read_nerve_parameters().refits else None,
        data=evaluation["data"],
        training_frames=len(training_rows),
        source=training_rows[0].source,
        licence=describe_licences(training_rows),
        candidates=len(champion["candidates"]),
        candidate_table=table_to_html(candidate_table(champion["candidates"])),
        learning_curves=plot_learning_curves(pd.read_csv(paths.UNETS / name / "history.csv")),
        group_table=table_to_html(subgroup_table(evaluation["groups"])),
        reliability_plot=embed_png(folder / "reliability.png"),
        both_kinds_of_frames=evaluation["test"]["presence_auc"] is not None,
        postprocessing=evaluation["postprocessing"],
        worst_frames=embed_png(folder / "worst.png"),
        good_dice=GOOD_DICE,
        failure_table=table_to_html(count_failures(scores[scores["split"] == "test"])),
        **cross_validation_section(),
        **ablation_section(),
    )
