"""What a lesson compares: trials, the tables that they return, and the metrics of a lesson."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

Metrics = dict[str, dict[str, float]]  # the metric's name -> the variant -> the value
Results = dict[str, pd.DataFrame]  # the trial's name -> its table


@dataclass(frozen=True)
class Trial:
    """One of the runs that a lesson compares: the parameters that it varies, and the function that runs it.

    run returns a table with a row for each epoch (one row if nothing is trained) and a column for each metric.
    """

    parameters: dict[str, Any]
    run: Callable[[], pd.DataFrame]


def group_by_kind(results: Results) -> dict[str, list[pd.DataFrame]]:
    """Return the tables of each kind, one for each seed, from trials with the name "KIND, seed SEED"."""
    groups: dict[str, list[pd.DataFrame]] = {}
    for name, table in results.items():
        groups.setdefault(name.split(", seed")[0], []).append(table)
    return groups
