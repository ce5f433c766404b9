"""The pose of the probe for one frame, its imaging plane through the subject, and the tissue in that plane."""

from dataclasses import dataclass, replace

import numpy as np

from training.data.sources.phantom.anatomy import HEIGHT_PX, WIDTH_PX, Subject
from training.data.sources.phantom.bmode_simulation import Medium
from training.data.sources.phantom.structures import Plane

MARGIN_PX = 30  # columns simulated beyond each side of the frame, because the beam is wider than a pixel
GOLDEN_RATIO = 0.6180339887498949  # its multiples, modulo 1, are spread evenly over 0..1
COMPLIANT_DEPTH_MM = 6  # below this depth tissue moves fully; at the surface the skin sticks to the probe
OUT_OF_PLANE_MM = 16  # elevation shift after which the nerve has left the imaging plane


@dataclass(frozen=True)
class Pose:
    """The pose of the probe.

    lateral_mm: lateral centre of the frame. elevation_mm: position along the limb. tilt: in-plane rotation, radians.
    compression: factor of depths; 1 is no pressure. displacement: waves of tissue motion, (amplitude_mm, length_mm,
    phase). gain_db: change of the scanner's gain. beam_angle: see Plane.
    """

    lateral_mm: float
    elevation_mm: float
    tilt: float
    compression: float
    displacement: tuple[tuple[float, float, float], ...]
    gain_db: float
    beam_angle: float = 0.0


def shows_nerve(subject: Subject, number: int) -> bool:
    """Return whether frame `number` shows the nerve. Such frames are spread evenly, at the subject's own rate."""
    return (subject.nerve_phase + number * GOLDEN_RATIO) % 1 < subject.nerve_fraction


def draw_pose(subject: Subject, with_nerve: bool, rng: np.random.Generator) -> Pose:
    """Return a random pose near the subject's usual one.

    Without the nerve, the probe moves along the limb until the nerve is out of the imaging plane, or sideways until it
    is out of the frame.
    """
    lateral_mm, elevation_mm = subject.centre_mm + rng.normal() * 0.8, rng.uniform(-5, 5)
    if not with_nerve and rng.random() < 0.7:
        elevation_mm += OUT_OF_PLANE_MM
    elif not with_nerve:
        half_width_mm = 0.5 * WIDTH_PX * subject.scanner.spacing_mm
        outside = half_width_mm + subject.nerve.outline.max_radius_mm + 2.5
        lateral_mm = (1 if subject.centre_mm > 0 else -1) * (outside + rng.uniform(0, 3))
    displacement = tuple((rng.normal() * 0.3, rng.uniform(20, 50), rng.uniform(0, 2 * np.pi)) for _ in range(2))
    pose = Pose(lateral_mm, elevation_mm, rng.normal() * 0.035, rng.uniform(0.96, 1.04), displacement, rng.normal())
    if not subject.beam_angle_deviation:
        return pose
    return replace(pose, beam_angle=rng.normal() * subject.beam_angle_deviation)


def imaging_plane(subject: Subject, pose: Pose) -> Plane:
    """Return the subject's coordinates at each pixel of the frame with margins: (HEIGHT_PX, WIDTH_PX + 2 MARGIN_PX)."""
    spacing = subject.scanner.spacing_mm
    x = ((np.arange(WIDTH_PX + 2 * MARGIN_PX) - (WIDTH_PX - 1) / 2 - MARGIN_PX) * spacing)[None, :]
    z = ((np.arange(HEIGHT_PX) + 0.5) * spacing)[:, None]
    compliance = np.minimum(z / COMPLIANT_DEPTH_MM, 1)
    shift = sum(size * np.sin(2 * np.pi * x / length + phase) for size, length, phase in pose.displacement)
    lateral_mm = x + pose.lateral_mm - z * np.sin(pose.tilt) + 0.5 * compliance * shift
    depth_mm = z * pose.compression + compliance * (x * np.sin(pose.tilt) + shift)
    return Plane(lateral_mm.astype(np.float32), depth_mm.astype(np.float32), pose.elevation_mm, pose.beam_angle)


def build_medium(subject: Subject, plane: Plane, with_nerve: bool) -> Medium:
    """Return the tissue in the imaging plane: layers, then the structures in them, the nerve last."""
    medium = Medium.uniform(*plane.lateral_mm.shape)
    subject.tissue.paint(medium, plane)
    for structure in subject.other_structures:
        structure.paint(medium, plane)
    if with_nerve:
        for nerve in (*subject.further_nerves, subject.nerve):
            nerve.paint(medium, plane)
    elif subject.look_alike is not None:
        subject.look_alike.paint(medium, plane)
    return medium
