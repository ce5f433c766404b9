"""Fit postprocessing on validation frames: calibration, and the thresholds with the best mean Dice."""

import dataclasses
import itertools
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pydantic import TypeAdapter

from service.inference.mask_confidence import mean_mask_probability
from service.inference.postprocessing import postprocess
from service.model.platt_scaling import PlattScaling
from service.model.postprocessing_config import PostprocessingConfig
from training.data.manifest import ManifestRow, read_frame, read_nerve_mask
from training.evaluation.calibration_fit import fit_confidence, fit_pixels, fit_presence, pixel_histograms
from training.evaluation.conformal_outlines_fit import fit_outlines
from training.evaluation.inference import Network, map_rows
from training.evaluation.segmentation_metrics import dice

MIN_PEAK_RATIO = 0.6  # not fitted: chosen on held-out folds, because one validation split has too few frames for it
MIN_PRESENCES = np.arange(0.0, 1.0, 0.05)
MIN_AREA_SHARES = (0.0, 0.001, 0.002, 0.004, 0.008)
MAX_COMPONENTS = (None, 2, 1)


class Thresholds(NamedTuple):
    """One choice of postprocessing thresholds, as in `PostprocessingConfig`."""

    min_presence: float
    min_area_share: float
    max_components: int | None

    @property
    def mask_limits(self) -> int:
        """The number of limits on the mask: on its area, and on its components."""
        return (self.min_area_share > 0) + (self.max_components is not None)


# Of choices with the same mean Dice, the fit takes the first of this list.
GRID = [Thresholds(*values) for values in itertools.product(MIN_PRESENCES, MIN_AREA_SHARES, MAX_COMPONENTS)]


def read_postprocessing(metrics: dict[str, Any]) -> PostprocessingConfig:
    """Return the postprocessing of a candidate's metrics.json."""
    return TypeAdapter(PostprocessingConfig).validate_json(json.dumps(metrics["postprocessing"]))


def fit_postprocessing(network: Network, rows: list[ManifestRow]) -> PostprocessingConfig:
    """Fit calibration, thresholds and the margins of the outlines on validation frames.

    The thresholds are those of GRID with the best mean Dice, with two exceptions. `choose_simplest` sets a limit on the
    mask's components or area only if the limit raises the mean Dice by more than its standard error. If several minimum
    presences have the same mean Dice, `choose_min_presence` chooses one of them.
    """
    pixel_calibration = _fit_pixel_calibration(network, rows)
    measurements_by_limit = _measure_frames(network, rows, pixel_calibration)
    unlimited = measurements_by_limit[None]
    presence, nerve = unlimited["presence"], unlimited["nerve"].to_numpy()
    presence_calibration = fit_presence(presence.to_numpy(), nerve)
    calibrated = presence.map(presence_calibration)
    measurements_by_limit = {
        limit: measurements.assign(presence=calibrated) for limit, measurements in measurements_by_limit.items()
    }

    thresholds = choose_thresholds(score_choices(measurements_by_limit), always_nerve=bool(nerve.all()))
    measurements = measurements_by_limit[thresholds.max_components]
    shown = measurements[_passes(measurements, thresholds) & (measurements["area_share"] > 0)]
    config = PostprocessingConfig(
        min_presence=round(float(thresholds.min_presence), 4),
        min_area_share=thresholds.min_area_share,
        max_components=thresholds.max_components,
        presence_calibration=presence_calibration,
        pixel_calibration=pixel_calibration,
        confidence_calibration=fit_confidence(shown["mean_probability"].to_numpy(), shown["dice"].to_numpy()),
        min_peak_ratio=MIN_PEAK_RATIO,
    )
    return dataclasses.replace(config, outlines=fit_outlines(network, rows, config))


def _fit_pixel_calibration(network: Network, rows: list[ManifestRow]) -> PlattScaling:
    def count_pixels(row: ManifestRow) -> tuple[np.ndarray, np.ndarray]:
        probability, _ = network(read_frame(row))
        return pixel_histograms(probability, read_nerve_mask(row))

    return fit_pixels(map_rows(count_pixels, rows, "pixels"))


def _measure_frames(
    network: Network, rows: list[ManifestRow], pixel_calibration: PlattScaling
) -> dict[int | None, pd.DataFrame]:
    """Return a table with a row per frame for each limit of MAX_COMPONENTS; None means no limit.

    Columns
      dice, area_share, mean_probability   of the mask without other limits; mean_probability is 0 for an empty mask
      presence                             as the network returns it
      nerve                                whether the frame shows a nerve
    """
    configs = [
        PostprocessingConfig(0.0, 0.0, limit, pixel_calibration=pixel_calibration, min_peak_ratio=MIN_PEAK_RATIO)
        for limit in MAX_COMPONENTS
    ]

    def measure(row: ManifestRow) -> list[dict[str, Any]]:
        probability, presence = network(read_frame(row))
        truth = read_nerve_mask(row)
        return [
            {
                "dice": dice(mask > 0, truth),
                "area_share": (mask > 0).mean(),
                "mean_probability": mean_mask_probability(probability, mask, pixel_calibration) or 0.0,
                "presence": presence,
                "nerve": bool(truth.any()),
            }
            for mask in (postprocess(probability, 1.0, config) for config in configs)
        ]

    by_limit = zip(*map_rows(measure, rows, "thresholds"), strict=True)
    return {limit: pd.DataFrame(records) for limit, records in zip(MAX_COMPONENTS, by_limit, strict=True)}


def _passes(measurements: pd.DataFrame, thresholds: Thresholds) -> np.ndarray:
    """Return for each frame whether presence and mask area reach their minimum, bool (frames,)."""
    presence, area_share = measurements["presence"].to_numpy(), measurements["area_share"].to_numpy()
    return (presence >= thresholds.min_presence) & (area_share >= thresholds.min_area_share)


def score_choices(measurements_by_limit: dict[int | None, pd.DataFrame]) -> np.ndarray:
    """Return the Dice of each frame under each choice of GRID, float64 (frames, choices).

    A mask that does not pass the thresholds is empty: its Dice is 1 without a nerve, else 0.

    measurements_by_limit: of `_measure_frames`, with calibrated presence.
    """
    dice_by_choice = []
    for thresholds in GRID:
        frames = measurements_by_limit[thresholds.max_components]
        dice_by_choice.append(np.where(_passes(frames, thresholds), frames["dice"], ~frames["nerve"].to_numpy()))
    return np.stack(dice_by_choice, axis=1)


def choose_thresholds(dice_by_choice: np.ndarray, always_nerve: bool) -> Thresholds:
    """Return the thresholds to use.

    dice_by_choice: the result of `score_choices`.
    always_nerve: whether every frame shows a nerve.
    """
    chosen = GRID[choose_simplest(dice_by_choice, [thresholds.mask_limits for thresholds in GRID])]
    same_mask_limits = [index for index, thresholds in enumerate(GRID) if thresholds[1:] == chosen[1:]]
    mean_dice = dice_by_choice.mean(axis=0)[same_mask_limits]  # by ascending minimum presence
    return GRID[same_mask_limits[choose_min_presence(mean_dice, always_nerve)]]


def choose_simplest(dice_by_choice: np.ndarray, limit_counts: Sequence[int]) -> int:
    """Return the index of the best choice with the fewest limits, within one standard error of the best choice.

    This is the one-standard-error rule (Breiman et al. 1984, section 3.4.3): with few frames, chance alone would set a
    limit every time. The error is that of the difference per frame. Of choices with the same mean, take the first.

    dice_by_choice: float (frames, choices).
    limit_counts: the number of limits of each choice.
    """
    means = dice_by_choice.mean(axis=0)
    best = dice_by_choice[:, means.argmax()]
    for count in np.unique(limit_counts):
        choice = int(np.where(np.equal(limit_counts, count), means, -1.0).argmax())
        dice_drop = best - dice_by_choice[:, choice]
        if dice_drop.mean() <= dice_drop.std() / len(dice_drop) ** 0.5:
            break
    return choice


def choose_min_presence(mean_dice: np.ndarray, always_nerve: bool) -> int:
    """Return the index of the minimum presence: the middle one of those with the best mean Dice.

    They span the gap between frames with and without a nerve. If every frame shows a nerve, the upper end of the gap is
    unknown, and each emptied mask is a missed nerve. Then return the lowest level above 0, if it is among the best:
    black, white and noise frames stay below it.

    mean_dice: float (levels,), by ascending minimum presence.
    always_nerve: whether every frame shows a nerve.
    """
    best = np.flatnonzero(np.isclose(mean_dice, mean_dice.max()))
    return int(best[:2][-1] if always_nerve else best[len(best) // 2])
