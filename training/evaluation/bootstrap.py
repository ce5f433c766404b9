"""Bootstrap confidence intervals."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy.stats import bootstrap

RESAMPLES = 2000
CONFIDENCE_LEVEL = 0.95
SEED = 1


def bootstrap_interval(values: pd.Series, statistic: Callable[..., np.ndarray]) -> tuple[float, float]:
    """Return the lower and upper bound of the percentile bootstrap interval of `statistic`.

    statistic: a NumPy reduction with an `axis` argument, such as `np.mean`.

    Raises ValueError if `values` is empty.
    """
    sample = values.to_numpy()
    if len(sample) == 1:  # scipy needs two values; every resample of one value is that value
        return sample[0], sample[0]
    interval = bootstrap(
        (sample,),
        statistic,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE_LEVEL,
        method="percentile",
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    return interval.low, interval.high
