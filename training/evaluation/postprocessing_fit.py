"""Fit postprocessing on validation frames: calibration, and the thresholds with the best mean Dice."""

import itertools
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pydantic import TypeAdapter

from service.inference.mask_confidence import mean_mask_probability
from service.inference.postprocessing import postprocess
from service.inference.probability_histogram import ProbabilityHistogram
from service.model.card import PostprocessingConfig
from service.model.platt_scaling import PlattScaling
from training.data.manifest import NERVE, ManifestRow, read_frame, read_labels
from training.evaluation.calibration import fit_confidence, fit_pixels, fit_presence, pixel_histograms
from training.evaluation.inference import Network, map_rows
from training.evaluation.metrics import dice
from training.workspace import paths

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
    """Fit calibration and thresholds on validation frames.

    The thresholds are those of GRID with the best mean Dice, with two exceptions. A limit on the mask's components or
    area must raise the mean Dice by more than its standard error (see `choose_thresholds`). Of several minimum
    presences with the same mean Dice, `choose_min_presence` takes one.
    """
    pixel_calibration = _fit_pixel_calibration(network, rows)
    masks = _measure_masks(network, rows, pixel_calibration)
    presence, nerve = masks[None]["presence"], masks[None]["nerve"].to_numpy()
    presence_calibration = fit_presence(presence.to_numpy(), nerve)
    calibrated = presence.map(presence_calibration)
    masks = {limit: measured.assign(presence=calibrated) for limit, measured in masks.items()}

    thresholds = choose_thresholds(dice_of_grid(masks), always_nerve=bool(nerve.all()))
    measured = masks[thresholds.max_components]
    shown = measured[_passes(measured, thresholds) & (measured["area_share"] > 0)]
    return PostprocessingConfig(
        min_presence=round(float(thresholds.min_presence), 4),
        min_area_share=thresholds.min_area_share,
        max_components=thresholds.max_components,
        presence_calibration=presence_calibration,
        pixel_calibration=pixel_calibration,
        confidence_calibration=fit_confidence(shown["mean_probability"].to_numpy(), shown["dice"].to_numpy()),
        min_peak_ratio=MIN_PEAK_RATIO,
    )


def _fit_pixel_calibration(network: Network, rows: list[ManifestRow]) -> PlattScaling:
    def count_pixels(row: ManifestRow) -> tuple[ProbabilityHistogram, ProbabilityHistogram]:
        probability, _ = network(read_frame(paths.FRAMES, row))
        return pixel_histograms(probability, read_labels(paths.FRAMES, row) == NERVE)

    return fit_pixels(map_rows(count_pixels, rows, "pixels"))


def _measure_masks(
    network: Network, rows: list[ManifestRow], pixel_calibration: PlattScaling
) -> dict[int | None, pd.DataFrame]:
    """Return, for each limit of MAX_COMPONENTS, a table with a row per frame.

    dice, area_share, mean_probability: of the mask without other limits; mean_probability is 0 for an empty mask.
    presence: as the network gives it. nerve: whether the frame shows a nerve.
    """
    configs = [
        PostprocessingConfig(0.0, 0.0, limit, pixel_calibration=pixel_calibration, min_peak_ratio=MIN_PEAK_RATIO)
        for limit in MAX_COMPONENTS
    ]

    def measure(row: ManifestRow) -> list[dict[str, Any]]:
        probability, presence = network(read_frame(paths.FRAMES, row))
        truth = read_labels(paths.FRAMES, row) == NERVE
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
    return {limit: pd.DataFrame(measured) for limit, measured in zip(MAX_COMPONENTS, by_limit, strict=True)}


def _passes(measured: pd.DataFrame, thresholds: Thresholds) -> np.ndarray:
    """Return for each frame whether presence and mask area reach their minimum, bool (frames,)."""
    presence, area_share = measured["presence"].to_numpy(), measured["area_share"].to_numpy()
    return (presence >= thresholds.min_presence) & (area_share >= thresholds.min_area_share)


def dice_of_grid(masks: dict[int | None, pd.DataFrame]) -> np.ndarray:
    """Return the Dice of each frame under each choice of GRID, float64 (frames, choices).

    masks: by the limit on components, a table with a row per frame: dice and area_share of its mask, its calibrated
    presence, and nerve. A mask that does not pass the thresholds is empty: its Dice is 1 without a nerve, else 0.
    """
    columns = []
    for thresholds in GRID:
        measured = masks[thresholds.max_components]
        columns.append(np.where(_passes(measured, thresholds), measured["dice"], ~measured["nerve"].to_numpy()))
    return np.stack(columns, axis=1)


def choose_thresholds(dice_by_choice: np.ndarray, always_nerve: bool) -> Thresholds:
    """Return the thresholds to use. dice_by_choice: the result of `dice_of_grid`. always_nerve: in every frame."""
    chosen = GRID[choose_simplest(dice_by_choice, [thresholds.mask_limits for thresholds in GRID])]
    same_mask_limits = [index for index, thresholds in enumerate(GRID) if thresholds[1:] == chosen[1:]]
    mean_dice = dice_by_choice.mean(axis=0)[same_mask_limits]  # by ascending minimum presence
    return GRID[same_mask_limits[choose_min_presence(mean_dice, always_nerve)]]


def choose_simplest(dice_by_choice: np.ndarray, limit_counts: Sequence[int]) -> int:
    """Return the index of the best choice with the fewest limits, within one standard error of the best choice.

    This is the one-standard-error rule (Breiman et al. 1984, section 3.4.3): with few frames, chance alone would set a
    limit every time. The error is that of the difference per frame. Of choices with the same mean, take the first.

    dice_by_choice: float (frames, choices). limit_counts: the number of limits of each choice.
    """
    means = dice_by_choice.mean(axis=0)
    best = dice_by_choice[:, means.argmax()]
    for count in np.unique(limit_counts):
        choice = int(np.where(np.equal(limit_counts, count), means, -1.0).argmax())
        loss = best - dice_by_choice[:, choice]
        if loss.mean() <= loss.std() / len(loss) ** 0.5:
            break
    return choice


def choose_min_presence(mean_dice: np.ndarray, always_nerve: bool) -> int:
    """Return the index of the minimum presence: the middle one of those with the best mean Dice.

    They span the gap between frames with and without a nerve. If every frame shows a nerve, the upper end of the gap is
    unknown, and each emptied mask is a missed nerve. Then return the lowest level above 0, if it is among the best:
    black, white and noise frames stay below it (docs/accuracy.md).

    mean_dice: float (levels,), by ascending minimum presence. always_nerve: whether every frame shows a nerve.
    """
    best = np.flatnonzero(np.isclose(mean_dice, mean_dice.max()))
    return int(best[:2][-1] if always_nerve else best[len(best) // 2])
