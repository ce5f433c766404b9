"""The probe's hand: where one frame's plane lies in the subject, and what it meets there."""

from dataclasses import dataclass

import numpy as np

from training.sources.phantom.acoustics import Medium
from training.sources.phantom.anatomy import HEIGHT, WIDTH, Subject
from training.sources.phantom.layers import paint_layers
from training.sources.phantom.structures import Plane

MARGIN = 30  # columns computed beyond either side of the frame: the beam reaches there
GOLDEN = 0.6180339887498949


@dataclass(frozen=True)
class Pose:
    """Centre and place along the limb in mm, turn in radians, pressure (1 is none), skin's sway as waves of
    (amplitude_mm, length_mm, phase), change of gain in dB."""

    centre_mm: float
    slice_mm: float
    turn: float
    pressure: float
    sway: tuple[tuple[float, float, float], ...]
    gain_db: float


def nerve_is_met(subject: Subject, number: int) -> bool:
    """Whether frame `number` shows the nerve: spread evenly over the frames, in the subject's own share."""
    return (subject.first_turn + number * GOLDEN) % 1 < subject.share_with_nerve


def draw_pose(subject: Subject, met: bool, rng: np.random.Generator) -> Pose:
    """A small move around the subject's usual place.

    Without the nerve, the probe slid along the limb to where the nerve is not, or aside until it is out of
    the frame.
    """
    centre, slice_mm = subject.gaze_mm + rng.normal() * 0.8, rng.uniform(-5, 5)
    if not met and rng.random() < 0.7:
        slice_mm += 16
    elif not met:
        nerve = subject.nerve.outline
        aside = 0.5 * WIDTH * subject.scanner.spacing_mm + nerve.reach_mm + 2.5
        centre = (1 if subject.gaze_mm > 0 else -1) * (aside + rng.uniform(0, 3))
    sway = tuple((rng.normal() * 0.3, rng.uniform(20, 50), rng.uniform(0, 2 * np.pi)) for _ in range(2))
    return Pose(centre, slice_mm, rng.normal() * 0.035, rng.uniform(0.96, 1.04), sway, rng.normal())


def plane_of(subject: Subject, pose: Pose) -> Plane:
    """The subject's coordinates at each pixel of the frame and its margins: (HEIGHT, WIDTH + 2 MARGIN)."""
    spacing = subject.scanner.spacing_mm
    x = ((np.arange(WIDTH + 2 * MARGIN) - (WIDTH - 1) / 2 - MARGIN) * spacing)[None, :]
    z = ((np.arange(HEIGHT) + 0.5) * spacing)[:, None]
    # The skin stays on the probe; what lies deeper gives way.
    give = np.minimum(z / 6, 1)
    sway = sum(size * np.sin(2 * np.pi * x / length + phase) for size, length, phase in pose.sway)
    x_mm = x + pose.centre_mm - z * np.sin(pose.turn) + 0.5 * give * sway
    z_mm = z * pose.pressure + give * (x * np.sin(pose.turn) + sway)
    return Plane(x_mm.astype(np.float32), z_mm.astype(np.float32), pose.slice_mm)


def meet(subject: Subject, plane: Plane, met: bool) -> Medium:
    """The medium in a plane: layers, then what lies in them, the nerve last."""
    medium = Medium.uniform(*plane.x_mm.shape)
    paint_layers(medium, plane, subject.layers, subject.fascias, subject.mottle, subject.skin)
    for structure in subject.neighbours:
        structure.paint(medium, plane)
    if met:
        subject.nerve.paint(medium, plane)
    elif subject.standing_in is not None:
        subject.standing_in.paint(medium, plane)
    return medium
