"""One subject: the examination's scanner settings, the layers, and what lies in them, drawn from a seed."""

from dataclasses import dataclass

import numpy as np

from training.sources.phantom.acoustics import Scanner
from training.sources.phantom.layers import Fascia, Grain, Layer, Skin
from training.sources.phantom.placement import Region, place_neighbours, place_nerve, stand_in
from training.sources.phantom.structures import Nerve, Structure

HEIGHT, WIDTH = 420, 580  # of a frame, pixels: the Kaggle competition's


@dataclass(frozen=True)
class Subject:
    """Everything that the frames of one subject share. Lengths in mm; x 0 is where the nerve lies."""

    scanner: Scanner
    skin: Skin
    layers: list[Layer]
    fascias: list[Fascia]
    mottle: Grain
    nerve: Nerve
    standing_in: Structure | None  # lies at the nerve's place where the nerve is not
    neighbours: list[Structure]
    gaze_mm: float  # the frame's usual centre, lateral
    share_with_nerve: float  # of the subject's frames
    first_turn: float  # 0..1: where in the cycle of frames with and without a nerve the subject begins


def draw_subject(rng: np.random.Generator) -> Subject:
    """A new subject. The same generator state gives the same subject."""
    scanner = _scanner(rng)
    muscle_db = rng.uniform(-43, -35)
    region = Region(HEIGHT * scanner.spacing_mm, WIDTH * scanner.spacing_mm, muscle_db)
    fascias = _fascias(rng, region.depth_mm)
    nerve = place_nerve(rng, region, fascias)
    room = 0.5 * region.width_mm - nerve.outline.reach_mm - 1.0
    return Subject(
        scanner=scanner,
        skin=Skin(rng.uniform(1.0, 2.0), _waves(rng, (1.6, 1.1, 0.5), (70, 25, 8))),
        layers=_layers(rng, muscle_db, len(fascias)),
        fascias=fascias,
        mottle=Grain.drawn(rng, 3.0, 1.8),
        nerve=nerve,
        standing_in=stand_in(rng, region, nerve.outline) if rng.random() < 0.55 else None,
        neighbours=place_neighbours(rng, region, nerve.outline),
        gaze_mm=rng.uniform(-0.75, 0.75) * room,
        share_with_nerve=rng.uniform(0.3, 0.7),
        first_turn=rng.random(),
    )


def _scanner(rng: np.random.Generator) -> Scanner:
    depth_mm = rng.uniform(26, 40)
    return Scanner(
        spacing_mm=depth_mm / HEIGHT,
        frequency_mhz=rng.uniform(8.5, 13),
        f_number=rng.uniform(1.6, 2.4),
        focus_mm=depth_mm * rng.uniform(0.25, 0.5),
        looks=int(rng.choice([1, 2, 3], p=[0.35, 0.45, 0.2])),
        gain_db=rng.uniform(-2, 6),
        dynamic_range_db=rng.uniform(52, 64),
        contrast=rng.uniform(1.15, 1.7),
        time_gain=rng.uniform(0.8, 1.0),
        noise_db=rng.uniform(-92, -84),
    )


def _waves(rng: np.random.Generator, sizes: tuple[float, ...], lengths_mm: tuple[float, ...]) -> tuple:
    return tuple(
        (
            size * rng.uniform(0.5, 1.2),
            length * rng.uniform(0.7, 1.4),
            rng.uniform(0, 2 * np.pi),
            rng.normal() * 0.025,
        )
        for size, length in zip(sizes, lengths_mm, strict=True)
    )


def _fascias(rng: np.random.Generator, depth_mm: float) -> list[Fascia]:
    """Three to five, the first below the fat, the others between muscles."""
    count = int(rng.integers(3, 6))
    depths = depth_mm * (np.linspace(0.16, 0.82, count) + rng.uniform(-0.05, 0.05, count))
    return [
        Fascia(
            depth_mm=float(depth),
            waves=_waves(rng, (rng.uniform(0.5, 4.5) if k else 0.6, 0.7, 0.07), (95, 36, 10)),
            brightness_db=rng.uniform(-20, -4) if k else rng.uniform(-8, 0),
            sheen=_waves(rng, (6, 6, 4), (28, 11, 4)),
            thickness_mm=rng.uniform(0.05, 0.12),
            strand_mm=rng.uniform(0.4, 1.4),
            strand=_waves(rng, (0.5, 0.15), (60, 22)),
            strand_db=rng.uniform(-18, -2),
        )
        for k, depth in enumerate(depths)
    ]


def _layers(rng: np.random.Generator, muscle_db: float, fascias: int) -> list[Layer]:
    """Fat, then below each fascia a muscle, or sometimes loose connective tissue."""
    septa = Grain.drawn(rng, rng.uniform(1.2, 3), 0.1)
    layers = [Layer(muscle_db + rng.uniform(2, 8), rng.uniform(5, 10), rng.uniform(0.3, 0.9), septa, 0.0)]
    for k in range(fascias):
        connective = k > 0 and rng.random() < 0.3
        ground_db = muscle_db + (rng.uniform(3, 8) if connective else rng.uniform(-2, 2))
        fibres = Grain.drawn(rng, rng.uniform(0.5, 1.8), rng.uniform(0.06, 0.11))
        streaks_db, threshold, lean = rng.uniform(6, 12), rng.uniform(0.4, 1.5), rng.uniform(-0.12, 0.12)
        layers.append(Layer(ground_db, streaks_db, threshold, fibres, lean))
    return layers
