"""Platt scaling: calibrate probabilities with a line on their log-odds."""

import math
from typing import Annotated

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
MIN_PROBABILITY = 1e-6  # stands for the network's 0, and 1 minus it for its 1: odds of a million


@dataclass(frozen=True, config=STRICT)
class PlattScaling:
    """A monotone map of probabilities: a line on their log-odds (Platt 1999). The defaults are the identity.

    slope: 0 or more.
    intercept: any number, in log-odds.
    """

    slope: Annotated[float, Field(ge=0)] = 1.0
    intercept: float = 0.0

    def __call__(self, probability: float) -> float:
        """Return the calibrated probability, 0 to 1."""
        return (1 + math.tanh((self.slope * log_odds(probability) + self.intercept) / 2)) / 2

    def calibrate_array(self, probability: np.ndarray) -> np.ndarray:
        """Return the calibrated probabilities, float64 (N,).

        probability: float (N,), 0 to 1.
        """
        return (1 + np.tanh(self.log_odds_array(probability) / 2)) / 2

    def log_odds_array(self, probability: np.ndarray) -> np.ndarray:
        """Return the log-odds of the calibrated probabilities, float64 (N,), always finite.

        probability: float (N,), 0 to 1.
        """
        clipped = np.clip(probability.astype(np.float64), MIN_PROBABILITY, 1 - MIN_PROBABILITY)
        return self.slope * np.log(clipped / (1 - clipped)) + self.intercept


def log_odds(probability: float) -> float:
    """Return ln(p / (1 - p)), with p limited to MIN_PROBABILITY and 1 - MIN_PROBABILITY."""
    clipped = min(max(probability, MIN_PROBABILITY), 1 - MIN_PROBABILITY)
    return math.log(clipped / (1 - clipped))
