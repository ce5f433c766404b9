"""Stage explain: one page on the champion, for people: the race, learning curves, figures, failures, folds, ablations.

Writes reports/champion.html, which needs nothing beside it, and adds it to the run of the net that was judged. Folds
and ablations are told of where `dvc repro folds/dvc.yaml:yardstick` and `:ablations` have left any.
"""

import base64
import io
import json
from pathlib import Path
from typing import Any

import pandas as pd

from training import ablations, parameters, tracking, variation, yardstick
from training.champion import CHAMPION
from training.evaluate import REPORTS
from training.failures import GOOD, counted
from training.parameters import Candidate
from training.refit import RUN, learnt
from training.scores import LOST, interval, worded
from training.sources.layout import licences
from training.split import rows_of
from training.train_unet import UNETS
from training.yardstick import YARDSTICK, leaking

PAGE = Path("reports/champion.html")
TEMPLATE = Path(__file__).with_name("explain.html")


def embedded(picture: bytes) -> str:
    """A PNG as a data URL."""
    return "data:image/png;base64," + base64.b64encode(picture).decode()


def html(table: pd.DataFrame) -> str:
    """A table as it stands in the page; safe to insert."""
    from markupsafe import Markup

    return Markup("" if table.empty else table.to_html(index=False, border=0, justify="left"))


def race(candidates: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """A row a candidate, the best on validation first."""
    ranked = sorted(candidates.items(), key=lambda item: -item[1]["validation"]["dice"])
    return pd.DataFrame(
        {
            "candidate": name,
            "validation": interval(figures["validation"], "dice"),
            "test": interval(figures["test"], "dice"),
            "test, median": interval(figures["test"], "dice_median"),
            f"test, below {LOST}": f"{figures['test']['dice_lost']:.1%}",
            "empty mask": f"{figures['test']['baseline_empty']:.3f}",
            "mean mask": f"{figures['test']['baseline_mean_mask']:.3f}",
        }
        for name, figures in ranked
    )


def curves(history: pd.DataFrame) -> bytes:
    """Loss and Dice by epoch as a PNG: training and validation."""
    from matplotlib.figure import Figure

    figure, picture = Figure(figsize=(9, 3), layout="constrained"), io.BytesIO()
    for axis, (name, title) in zip(figure.subplots(1, 2), {"loss": "loss", "mask_dice": "Dice"}.items(), strict=True):
        axis.plot(history["epoch"], history[name], label="training, moved and changed")
        axis.plot(history["epoch"], history[f"val_{name}"], label="validation")
        axis.set(xlabel="epoch", title=title)
        axis.legend(frameon=False, fontsize=8)
    figure.savefig(picture, dpi=110, metadata={"Software": None})
    return picture.getvalue()


def is_stale(scores: pd.DataFrame, candidate: Candidate) -> bool:
    """Whether a net's scored frames are of other data, or of another recipe than the candidate's."""
    return set(scores.get("made_of", [])) != {tracking.made_of(candidate)}  # earlier ones do not tell


def folds() -> dict[str, Any]:
    """What the page says of the five folds: nothing where none is measured, or those of other data or recipes."""
    if not YARDSTICK.exists():
        return {}
    candidates = yardstick.read()
    if not candidates or any(is_stale(scores, parameters.candidate(name)) for name, scores in candidates.items()):
        return {}
    return {
        "folds": html(pd.read_csv(YARDSTICK / "table.csv", dtype=str, keep_default_na=False)),
        "leaking": leaking(json.loads((YARDSTICK / "metrics.json").read_text())["leakage"], candidates),
        "by_fold": embedded((YARDSTICK / "folds.png").read_bytes()),
    }


def parts() -> dict[str, Any]:
    """What the page says of the ablations: nothing where none is measured, or those of other data or recipes."""
    if not ablations.REPORTS.exists():
        return {}
    scores = pd.read_csv(ablations.REPORTS / "frames.csv")
    base = variation.candidates(variation.ablations())[variation.BASE]
    if is_stale(scores[scores["variation"] == variation.BASE], base):
        return {}
    return {
        "ablations": html(ablations.worded(ablations.compared(scores))),
        "differences": embedded((ablations.REPORTS / "differences.png").read_bytes()),
    }


def page(champion: dict[str, Any]) -> str:
    """The page. champion: what the stage before wrote."""
    from jinja2 import Environment

    name = champion["candidate"]
    scores = pd.read_csv(REPORTS / name / "frames.csv", keep_default_na=False)
    figures, trained = champion["race"][name], rows_of("train")
    template = Environment(autoescape=True, trim_blocks=True).from_string(TEMPLATE.read_text())
    return template.render(
        champion=champion,
        run=json.loads(RUN.read_text()),
        served=len(learnt()) if parameters.nerve().learns_all else None,
        data=figures["data"],
        trained=len(trained),
        source=trained[0].source,
        licence=licences(trained),
        race=html(race(champion["race"])),
        candidates=len(champion["race"]),
        curves=embedded(curves(pd.read_csv(UNETS / name / "history.csv"))),
        groups=html(worded(figures["groups"])),
        reliability=embedded((REPORTS / name / "reliability.png").read_bytes()),
        told_apart=figures["test"]["presence_auc"] is not None,
        decision=figures["decision"],
        worst=embedded((REPORTS / name / "worst.png").read_bytes()),
        good=GOOD,
        failures=html(counted(scores[scores["split"] == "test"])),
        **folds(),
        **parts(),
    )


def main() -> None:
    champion = json.loads(CHAMPION.read_text())
    PAGE.write_text(page(champion))
    with tracking.resumed(UNETS / champion["candidate"] / "unet.onnx") as known:
        if known:
            import mlflow

            mlflow.log_artifact(str(PAGE))
    print(f"{PAGE}: the champion, explained")


if __name__ == "__main__":
    main()
