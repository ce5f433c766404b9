"""Simulate cines: the probe moves over a subject, and the labels of every frame are known.

The scatterers belong to the tissue: speckle moves with it, and changes as the probe moves along the limb. Without that,
each frame would have speckle of its own, and a cine would flicker as no real one does.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

import cv2
import numpy as np

from training.data.sources.phantom.anatomy import HEIGHT_PX, WIDTH_PX, Subject, draw_subject
from training.data.sources.phantom.bmode_simulation import ScattererSource, detect_envelope, log_compress
from training.data.sources.phantom.layers import HALF_WIDTH_MM
from training.data.sources.phantom.probe import MARGIN_PX, Pose, build_medium, draw_pose, imaging_plane
from training.data.sources.phantom.structures import Plane

FRAMES_PER_SECOND = 20
SLICE_THICKNESS_MM = 1.0  # elevation over which the scatterers in the imaging plane are replaced by others
SLICE_OFFSET = 10_000  # seeds cannot be negative
# Amplitudes of the probe's motion. A hand searches, and presses. The nerve may partly leave the frame.
MIN_LATERAL_MM, MAX_LATERAL_MM = 2.0, 14.0
ELEVATION_MM, TILT, COMPRESSION = 3.0, 0.06, 0.03  # mm, radians, factor of depths
MIN_PERIOD_SECONDS, MAX_PERIOD_SECONDS = 2.0, 6.0
# A sweep takes the probe sideways until the nerve has left the frame, and back.
MIN_SWEEP_SECONDS, MAX_SWEEP_SECONDS = 2.5, 4.0
SWEEP_MARGIN_MM = 5.0  # of the nerve from the edge of the frame, at the end of the sweep


def simulate_cine(
    seed: int, subject_number: int, frames: int, sweeps: bool = False
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield pixels and labels of each frame of a cine; see `simulate_frame`.

    sweeps: the nerve leaves the frame and comes back.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(subject_number,)))
    subject = draw_subject(rng)
    scatterers = TissueScatterers(subject.scanner.spacing_mm, subject.scanner.compounding_angles, rng)
    for pose in probe_motion(subject, frames, sweeps, rng):
        plane = imaging_plane(subject, pose)
        medium = build_medium(subject, plane, with_nerve=True)
        scanner = replace(subject.scanner, gain_db=subject.scanner.gain_db + pose.gain_db)
        pixels = log_compress(detect_envelope(medium, scanner, rng, scatterers.at(plane)), scanner)
        yield pixels[:, MARGIN_PX:-MARGIN_PX].copy(), medium.labels[:, MARGIN_PX:-MARGIN_PX].copy()


def probe_motion(subject: Subject, frames: int, sweeps: bool, rng: np.random.Generator) -> Iterator[Pose]:
    """Yield the poses of a probe that a hand moves about the subject's usual pose: sums of two slow sines.

    sweeps: the lateral motion is a sweep in place of these.
    """
    start = draw_pose(subject, with_nerve=True, rng=rng)
    seconds = np.arange(frames) / FRAMES_PER_SECOND

    def swing(amplitude: float) -> np.ndarray:
        periods = rng.uniform(MIN_PERIOD_SECONDS, MAX_PERIOD_SECONDS, 2)
        phases = rng.uniform(0, 2 * np.pi, 2)
        waves = [np.sin(2 * np.pi * seconds / period + phase) for period, phase in zip(periods, phases, strict=True)]
        return amplitude / 2 * np.sum(waves, axis=0)

    lateral = swing(rng.uniform(MIN_LATERAL_MM, MAX_LATERAL_MM))
    if sweeps:
        lateral = _sweep(subject, start, seconds, rng)
    elevation, tilt, compression = (swing(amplitude) for amplitude in (ELEVATION_MM, TILT, COMPRESSION))
    for index in range(frames):
        yield replace(
            start,
            lateral_mm=start.lateral_mm + lateral[index],
            elevation_mm=start.elevation_mm + elevation[index],
            tilt=start.tilt + tilt[index],
            compression=start.compression + compression[index],
        )


def _sweep(subject: Subject, start: Pose, seconds: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the lateral motion of a sweep from the start, mm: away from the nerve, to the side where it is farther."""
    side = 1 if start.lateral_mm > 0 else -1  # the nerve is at 0
    half_width_mm = 0.5 * WIDTH_PX * subject.scanner.spacing_mm
    end = half_width_mm + subject.nerve.outline.max_radius_mm + SWEEP_MARGIN_MM
    period = rng.uniform(MIN_SWEEP_SECONDS, MAX_SWEEP_SECONDS)
    return side * (end - abs(start.lateral_mm)) * (1 - np.cos(2 * np.pi * seconds / period)) / 2


class TissueScatterers:
    """Random scatterers at fixed places of the tissue.

    spacing_mm: distance between scatterers: that of the frame's pixels.
    angles: number of independent fields, for spatial compounding.
    """

    def __init__(self, spacing_mm: float, angles: int, rng: np.random.Generator):
        self.spacing_mm = spacing_mm
        self.shape = (round(1.5 * HEIGHT_PX), round(2 * HALF_WIDTH_MM / spacing_mm))
        self.seeds = rng.integers(2**32, size=angles).tolist()

    def at(self, plane: Plane) -> ScattererSource:
        """Return the scatterers in an imaging plane: a function of the number of the compounding angle.

        Between two slices of the tissue the scatterers of one fade into those of the next, at constant power.
        """
        position = plane.elevation_mm / SLICE_THICKNESS_MM
        below = int(np.floor(position))
        blend = (position - below) * np.pi / 2
        column = (plane.lateral_mm + np.float32(HALF_WIDTH_MM)) / np.float32(self.spacing_mm)
        row = plane.depth_mm / np.float32(self.spacing_mm)

        def sample(angle: int) -> np.ndarray:
            here, next_slice = (_draw_slice(self.seeds[angle], number, self.shape) for number in (below, below + 1))
            field = np.cos(blend) * here + np.sin(blend) * next_slice
            nearest = cv2.remap(field.astype(np.float32), column, row, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT)
            return np.ascontiguousarray(nearest).view(np.complex64)[..., 0]

        return sample


@lru_cache(maxsize=8)
def _draw_slice(seed: int, number: int, shape: tuple[int, int]) -> np.ndarray:
    """Return the scatterers of a slice of tissue: float32 (*shape, 2), real and imaginary parts.

    The cache holds the slices around the imaging plane, of each compounding angle.
    """
    rng = np.random.default_rng((seed, number + SLICE_OFFSET))
    return rng.standard_normal((*shape, 2), dtype=np.float32)
