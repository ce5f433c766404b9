"""Draw one subject: the scanner settings of its examination, its tissue layers, and the structures in them."""

from dataclasses import dataclass

import numpy as np

from training.data.sources.phantom.bmode_simulation import Scanner
from training.data.sources.phantom.layers import Fascia, Layer, Skin, Texture, Tissue, Wave, Waves
from training.data.sources.phantom.placement import Region, place_look_alike, place_nerve, place_other_structures
from training.data.sources.phantom.structures import Nerve, Structure

HEIGHT_PX, WIDTH_PX = 420, 580  # of a frame, as in the Kaggle competition


@dataclass(frozen=True)
class Subject:
    """All that the frames of one subject share. Lengths are in mm; the nerve is at lateral position 0.

    look_alike: a structure in the nerve's place in frames without the nerve.
    centre_mm: usual lateral centre of the frame.
    nerve_fraction: fraction of the frames with the nerve.
    nerve_phase: 0..1, where the subject's sequence of frames with and without the nerve begins.
    further_nerves: in the frames that show the nerve.
    beam_angle_deviation: standard deviation of Pose.beam_angle over the frames, radians.
    """

    scanner: Scanner
    region: Region
    tissue: Tissue
    nerve: Nerve
    look_alike: Structure | None
    other_structures: list[Structure]
    centre_mm: float
    nerve_fraction: float
    nerve_phase: float
    further_nerves: tuple[Nerve, ...] = ()
    beam_angle_deviation: float = 0.0


def draw_subject(rng: np.random.Generator) -> Subject:
    """Return a random subject. The same state of the generator gives the same subject."""
    scanner = _draw_scanner(rng)
    muscle_db = rng.uniform(-43, -35)
    region = Region(HEIGHT_PX * scanner.spacing_mm, WIDTH_PX * scanner.spacing_mm, muscle_db)
    fascias = _draw_fascias(rng, region.depth_mm)
    nerve = place_nerve(rng, region, fascias)
    max_offset_mm = 0.5 * region.width_mm - nerve.outline.max_radius_mm - 1.0
    return Subject(
        scanner=scanner,
        region=region,
        tissue=Tissue(
            skin=Skin(rng.uniform(1.0, 2.0), _draw_waves(rng, (1.6, 1.1, 0.5), (70, 25, 8))),
            layers=_draw_layers(rng, muscle_db, len(fascias)),
            fascias=fascias,
            backscatter_texture=Texture.draw(rng, 3.0, 1.8),
        ),
        nerve=nerve,
        look_alike=place_look_alike(rng, region, nerve.outline) if rng.random() < 0.55 else None,
        other_structures=place_other_structures(rng, region, [nerve.outline]),
        centre_mm=rng.uniform(-0.75, 0.75) * max_offset_mm,
        nerve_fraction=rng.uniform(0.3, 0.7),
        nerve_phase=rng.random(),
    )


def _draw_scanner(rng: np.random.Generator) -> Scanner:
    depth_mm = rng.uniform(26, 40)
    return Scanner(
        spacing_mm=depth_mm / HEIGHT_PX,
        frequency_mhz=rng.uniform(8.5, 13),
        f_number=rng.uniform(1.6, 2.4),
        focus_mm=depth_mm * rng.uniform(0.25, 0.5),
        compounding_angles=int(rng.choice([1, 2, 3], p=[0.35, 0.45, 0.2])),
        gain_db=rng.uniform(-2, 6),
        dynamic_range_db=rng.uniform(52, 64),
        grey_map_exponent=rng.uniform(1.15, 1.7),
        tgc=rng.uniform(0.8, 1.0),
        noise_db=rng.uniform(-92, -84),
    )


def _draw_waves(rng: np.random.Generator, amplitudes: tuple[float, ...], lengths_mm: tuple[float, ...]) -> Waves:
    return tuple(
        Wave(
            amplitude * rng.uniform(0.5, 1.2),
            length_mm * rng.uniform(0.7, 1.4),
            rng.uniform(0, 2 * np.pi),
            rng.normal() * 0.025,
        )
        for amplitude, length_mm in zip(amplitudes, lengths_mm, strict=True)
    )


def _draw_fascias(rng: np.random.Generator, depth_mm: float) -> list[Fascia]:
    """Return three to five fascias, the first below the fat, the others between muscles."""
    count = int(rng.integers(3, 6))
    depths = depth_mm * (np.linspace(0.16, 0.82, count) + rng.uniform(-0.05, 0.05, count))
    return [
        Fascia(
            depth_mm=float(depth),
            depth_waves=_draw_waves(rng, (rng.uniform(0.5, 4.5) if k else 0.6, 0.7, 0.07), (95, 36, 10)),
            specular_db=rng.uniform(-20, -4) if k else rng.uniform(-8, 0),
            specular_waves=_draw_waves(rng, (6, 6, 4), (28, 11, 4)),
            thickness_mm=rng.uniform(0.05, 0.12),
            second_gap_mm=rng.uniform(0.4, 1.4),
            second_gap_waves=_draw_waves(rng, (0.5, 0.15), (60, 22)),
            second_db=rng.uniform(-18, -2),
        )
        for k, depth in enumerate(depths)
    ]


def _draw_layers(rng: np.random.Generator, muscle_db: float, fascias: int) -> list[Layer]:
    """Return fat, then below each fascia muscle or sometimes loose connective tissue."""
    septa = Texture.draw(rng, rng.uniform(1.2, 3), 0.1)
    layers = [Layer(muscle_db + rng.uniform(2, 8), rng.uniform(5, 10), rng.uniform(0.3, 0.9), septa, 0.0)]
    for k in range(fascias):
        is_connective = k > 0 and rng.random() < 0.3
        backscatter_db = muscle_db + (rng.uniform(3, 8) if is_connective else rng.uniform(-2, 2))
        fibres = Texture.draw(rng, rng.uniform(0.5, 1.8), rng.uniform(0.06, 0.11))
        streak_db, threshold, slope = rng.uniform(6, 12), rng.uniform(0.4, 1.5), rng.uniform(-0.12, 0.12)
        layers.append(Layer(backscatter_db, streak_db, threshold, fibres, slope))
    return layers
