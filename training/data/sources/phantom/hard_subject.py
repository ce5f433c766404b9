"""Hard subjects: what makes real frames harder to segment than those of easy subjects.

Nerves of all sizes, with brighter or darker stroma and a faint epineurium; several nerves; vessels beside them; other
structures that look like nerves in the same frame; and anisotropy: a nerve darkens as the beam leaves the right angle
to it. `training.evaluation.nerve_contrast` compares a data set's nerves with their surroundings.
"""

from dataclasses import replace

import numpy as np

from training.data.sources.phantom.anatomy import Subject
from training.data.sources.phantom.placement import (
    Region,
    draw_nerve,
    find_free_place,
    place_look_alike,
    place_other_structures,
)
from training.data.sources.phantom.structures import Nerve

# Of the 204 frames of usgra-seg: the nerve's share of the frame has the median 0.026 and the 10 and 90 % quantiles
# 0.009 and 0.065; 74 % have one nerve, 19 % two, 7 % more; 90 % show a vessel.
MEDIAN_AREA_SHARE, LOG_AREA_DEVIATION = 0.026, 0.75
MIN_AREA_SHARE, MAX_AREA_SHARE = 0.007, 0.08
FURTHER_NERVES, FURTHER_NERVE_PROBABILITIES = (0, 1, 2), (0.6, 0.28, 0.12)
ANOTHER_ARTERY_PROBABILITY = 0.55
LOOK_ALIKES, LOOK_ALIKE_PROBABILITIES = (0, 1, 2, 3), (0.2, 0.4, 0.3, 0.1)
STROMA_DB, FASCICLE_DB, EPINEURIUM_DB = (5, 14), (-4, 4), (-2, 3)  # above muscle, above muscle, above stroma
BEAM_ANGLE_DEVIATION = 0.11  # radians, about 6 degrees


def make_hard(subject: Subject, rng: np.random.Generator) -> Subject:
    """Return the subject with hard nerves and more structures around them."""
    region = subject.region
    nerve = _vary_nerve(subject.nerve, region, rng)
    outlines, further_nerves = [nerve.outline], []
    for _ in range(int(rng.choice(FURTHER_NERVES, p=FURTHER_NERVE_PROBABILITIES))):
        if outline := find_free_place(rng, region, outlines, aspect=rng.uniform(0.5, 0.9)):
            outlines.append(outline)
            further_nerves.append(_vary_backscatter(draw_nerve(rng, region, outline), region, rng))
    more = ["artery"] if rng.random() < ANOTHER_ARTERY_PROBABILITY else []
    more += ["look-alike"] * int(rng.choice(LOOK_ALIKES, p=LOOK_ALIKE_PROBABILITIES))
    return replace(
        subject,
        nerve=nerve,
        further_nerves=tuple(further_nerves),
        look_alike=subject.look_alike and place_look_alike(rng, region, nerve.outline),
        other_structures=place_other_structures(rng, region, outlines, more),
        beam_angle_deviation=BEAM_ANGLE_DEVIATION,
    )


def _vary_nerve(nerve: Nerve, region: Region, rng: np.random.Generator) -> Nerve:
    """Return the nerve with another size, at the same place, and with another backscatter."""
    share = np.clip(MEDIAN_AREA_SHARE * np.exp(rng.normal() * LOG_AREA_DEVIATION), MIN_AREA_SHARE, MAX_AREA_SHARE)
    outline = nerve.outline
    area = np.pi * outline.half_width_mm * outline.half_height_mm
    factor = float(np.sqrt(share * region.depth_mm * region.width_mm / area))
    half_height = outline.half_height_mm * factor
    resized = replace(
        outline,
        half_width_mm=outline.half_width_mm * factor,
        half_height_mm=half_height,
        depth_mm=float(np.clip(outline.depth_mm, half_height + 2, region.depth_mm - half_height - 1)),
    )
    return _vary_backscatter(replace(nerve, outline=resized), region, rng)


def _vary_backscatter(nerve: Nerve, region: Region, rng: np.random.Generator) -> Nerve:
    stroma_db = region.muscle_db + rng.uniform(*STROMA_DB)
    return replace(
        nerve,
        stroma_db=stroma_db,
        fascicle_db=region.muscle_db + rng.uniform(*FASCICLE_DB),
        epineurium_db=stroma_db + rng.uniform(*EPINEURIUM_DB),
    )
