"""The part of a card that says how the network's probabilities become a mask, its outlines, presence and confidence."""

from typing import Annotated

from pydantic import Field, NonNegativeFloat, PositiveInt
from pydantic.dataclasses import dataclass

from service.model.platt_scaling import STRICT, PlattScaling

Share = Annotated[float, Field(ge=0, le=1)]  # of a whole, or a probability


@dataclass(frozen=True, config=STRICT)
class ConformalOutlines:
    """An inner and an outer outline around each mask, with a guarantee by conformal prediction.

    Take the frames whose mask has an expected Dice of at least `min_confidence`. In `level` of those with a nerve, the
    outer outline holds at least `coverage` of the nerve. In `level` of them all, at least `coverage` of the inner
    outline is nerve. Three things are assumed. New frames are like the calibration frames; frames of few subjects say
    less about others. The evaluated model is served, not a refit. The calibration frames also fitted the other values
    of the postprocessing, which has little effect.

    outer_margin, inner_margin: from the mask's threshold, in log-odds of the calibrated probability, 0 or more. The
        outer outline holds the pixels down to the outer margin below the threshold; the inner one those of the mask
        from the inner margin above it.
    coverage, level, min_confidence: shares, 0 to 1.
    frames: number of calibration frames with a nerve: validation frames of the evaluated model.
    subjects: number of their subjects. None: not recorded.
    """

    outer_margin: NonNegativeFloat
    inner_margin: NonNegativeFloat
    coverage: Share
    level: Share
    min_confidence: Share
    frames: PositiveInt
    subjects: PositiveInt | None


@dataclass(frozen=True, config=STRICT)
class PostprocessingConfig:
    """How the network's probabilities become a mask, a presence and a confidence. All values are fitted on validation.

    min_presence: a frame with a lower calibrated presence has an empty mask; probability, 0 to 1.
    min_area_share: a smaller mask is emptied; share of the frame's area, 0 to 1.
    max_components: number of connected components that are kept, the largest first; 1 or more, None: all.
    presence_calibration: from the network's presence to the probability that the frame shows a nerve.
    pixel_calibration: from the network's mask probability to the probability that a pixel is nerve.
    confidence_calibration: from the mean calibrated probability of the mask's pixels to the expected Dice, 0 to 1.
    min_peak_ratio: a component is dropped if its highest calibrated probability is a smaller share of the frame's
        highest; 0 to 1.
    outlines: None: too few validation frames, or an earlier release wrote the card.

    A calibration is the identity where the validation frames cannot fit it.
    """

    min_presence: Share
    min_area_share: Share
    max_components: PositiveInt | None = None
    presence_calibration: PlattScaling = PlattScaling()
    pixel_calibration: PlattScaling = PlattScaling()
    confidence_calibration: PlattScaling = PlattScaling()
    min_peak_ratio: Share = 0.0
    outlines: ConformalOutlines | None = None
