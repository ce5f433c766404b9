"""The page about an archive, report.html in its output folder: presence and drift by month, and uncertain frames."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jinja2 import Environment
from pyarrow import dataset

from service.archive.frame_rows import SCHEMA
from service.archive.result_store import ResultStore
from service.clients.output_files import atomic_file
from service.model.card import Card, MeanStd

TEMPLATE = Path(__file__).with_name("report.html")
REPORT = "report.html"
UNCERTAIN_FRAMES = 24
CONFIDENCE_EDGES = np.linspace(0, 1, 11)
MEANS = ["present", "confidence", "intensity_mean", "intensity_deviation"]
COLUMNS = ["digest", "frame", "month", *MEANS, "error"]


class Summary(NamedTuple):
    """What the page shows of the table.

    months: frames, and the mean of each of MEANS, by month; months that are not known have the name "unknown".
    confidences: number of masks in each tenth of the confidence. errors: number of rows by error code.
    uncertain: the rows of the masks with the lowest confidence.
    """

    months: pd.DataFrame
    confidences: np.ndarray
    errors: pd.Series
    uncertain: pd.DataFrame


def summarize(parts: list[Path]) -> Summary:
    """Return the summary of a table, which is read batch by batch."""
    sums, errors, uncertain = [], [], []
    confidences = np.zeros(len(CONFIDENCE_EDGES) - 1, int)
    for batch in dataset.dataset(list(map(str, parts)), schema=SCHEMA).to_batches(columns=COLUMNS):
        rows = batch.to_pandas()
        errors.append(rows["error"].value_counts())
        frames = rows[rows["error"].isna()].fillna({"month": "unknown"}).astype(dict.fromkeys(MEANS, float))
        groups = frames.groupby("month")[MEANS]
        sums.append(groups.sum().join(groups.count().add_suffix("_count")).join(groups.size().rename("frames")))
        confidences += np.histogram(frames["confidence"].dropna(), CONFIDENCE_EDGES)[0]
        uncertain.append(frames.dropna(subset=["confidence"]).nsmallest(UNCERTAIN_FRAMES, "confidence"))
        uncertain = [pd.concat(uncertain).nsmallest(UNCERTAIN_FRAMES, "confidence")]
    totals = pd.concat(sums).groupby("month").sum()
    means = {name: totals[name] / totals[f"{name}_count"] for name in MEANS}
    months = pd.DataFrame({"frames": totals["frames"].astype(int), **means})
    return Summary(months, confidences, pd.concat(errors).groupby(level=0).sum(), uncertain[0])


def write_report(store: ResultStore, card: Card) -> Path | None:
    """Write the page about one model's table; return its path, or None without a row."""
    parts = sorted(store.table.glob("part-*.parquet"))
    if not parts:
        return None
    summary = summarize(parts)
    frames = int(summary.months["frames"].sum())
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(TEMPLATE.read_text())
    html = page.render(
        card=card,
        frames=frames,
        months=[_month(str(name), row, card) for name, row in summary.months.iterrows()],
        confidences=[(CONFIDENCE_EDGES[i], int(count)) for i, count in enumerate(summary.confidences)],
        most_masks=max(1, int(summary.confidences.max())),
        errors=list(summary.errors.items()),
        uncertain=[
            {**row, "picture": _picture(store, str(row["digest"]), int(row["frame"]))}
            for row in summary.uncertain.to_dict("records")
        ],
    )
    with atomic_file(store.folder / REPORT) as file:
        file.write(html.encode())
    return store.folder / REPORT


def _month(name: str, row: pd.Series, card: Card) -> dict[str, Any]:
    """Return a month's values for the page, and how far they are from the training frames."""
    reference = card.reference_stats

    def drift(column: str, expected: MeanStd | None) -> float | None:
        known = expected is not None and expected.std > 0 and not np.isnan(row[column])
        return abs(float(row[column]) - expected.mean) / expected.std if known and expected else None

    drifts = {column: drift(column, getattr(reference, column, None)) for column in MEANS[1:]}
    confidence = None if np.isnan(row["confidence"]) else float(row["confidence"])
    return {"name": name, "frames": int(row["frames"]), "present": row["present"], "confidence": confidence} | {
        f"{column}_drift": value for column, value in drifts.items()
    }


def _picture(store: ResultStore, digest: str, frame: int) -> str | None:
    """Return the output picture of a frame, relative to the page; None if there is none."""
    for kind in ("overlay", "mask"):
        outputs = ResultStore(store.folder, store.model, kind)
        for index in (None, frame):
            if (path := outputs.output(digest, ".png", index)).exists():
                return os.path.relpath(path, store.folder)
    return None
