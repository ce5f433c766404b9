"""Stage explain: one page on the champion, for people: the race, learning curves, figures, failures, ablations.

Writes reports/champion.html, which needs nothing beside it, and adds it to the champion's run in MLflow. Ablations are
told of where `dvc repro folds/dvc.yaml:ablations` has left any.
"""

import base64
import io
import json
from pathlib import Path
from typing import Any

import pandas as pd

from training import ablations, parameters, tracking
from training.champion import CHAMPION
from training.evaluate import REPORTS
from training.failures import GOOD, KINDS
from training.refit import RUN, learnt
from training.scores import LOST
from training.sources.layout import licences
from training.split import rows_of
from training.train_unet import UNETS

PAGE = Path("reports/champion.html")
TEMPLATE = Path(__file__).with_name("explain.html")
SPREAD = {"mean Dice": "dice", "median Dice": "dice_median"}


def embedded(picture: bytes) -> str:
    """A PNG as a data URL."""
    return "data:image/png;base64," + base64.b64encode(picture).decode()


def html(table: pd.DataFrame) -> str:
    """A table as it stands in the page; safe to insert."""
    from markupsafe import Markup

    return Markup("" if table.empty else table.to_html(index=False, border=0, justify="left"))


def interval(figures: dict[str, Any], name: str) -> str:
    return f"{figures[name]:.3f} ({figures[f'{name}_low']:.3f} to {figures[f'{name}_high']:.3f})"


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


def grouped(groups: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """A row a group of test frames: by size of nerve and of frame."""
    return pd.DataFrame(
        {"test frames": name, "number": figures["frames"]}
        | {title: interval(figures, key) for title, key in SPREAD.items()}
        | {f"below {LOST}": f"{figures['dice_lost']:.1%}"}
        for name, figures in groups.items()
    )


def failed(scores: pd.DataFrame) -> pd.DataFrame:
    """A row a kind of failure, the most frequent first. scores: `failure`, a row a frame, empty where it did not."""
    counts = scores["failure"].value_counts()
    return pd.DataFrame(
        {"what": kind, "test frames": f"{counts[kind]} of {len(scores)}", "that is": KINDS[kind]}
        for kind in counts.index
        if kind in KINDS
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


def page(champion: dict[str, Any]) -> str:
    """The page. champion: what the stage before wrote."""
    from jinja2 import Environment

    name, measured = champion["candidate"], ablations.REPORTS
    scores = pd.read_csv(REPORTS / name / "frames.csv", keep_default_na=False)
    trained, refit = rows_of("train"), parameters.nerve().refit
    template = Environment(autoescape=True, trim_blocks=True).from_string(TEMPLATE.read_text())
    return template.render(
        champion=champion,
        run=json.loads(RUN.read_text()),
        served=len(learnt(refit)) if refit else None,
        data=champion["race"][name]["data"],
        trained=len(trained),
        source=trained[0].source,
        licence=licences(trained),
        race=html(race(champion["race"])),
        candidates=len(champion["race"]),
        curves=embedded(curves(pd.read_csv(UNETS / name / "history.csv"))),
        groups=html(grouped(champion["race"][name]["groups"])),
        reliability=embedded((REPORTS / name / "reliability.png").read_bytes()),
        worst=embedded((REPORTS / name / "worst.png").read_bytes()),
        good=GOOD,
        failures=html(failed(scores[scores["split"] == "test"])),
        ablations=html(ablations.worded(ablations.compared(pd.read_csv(measured / "frames.csv"))))
        if measured.exists()
        else None,
        differences=embedded((measured / "differences.png").read_bytes()) if measured.exists() else None,
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
