"""One subject: the examination's scanner settings, the layers, the nerve and its neighbours, drawn from a seed."""

from dataclasses import dataclass, replace

import numpy as np

from training.sources.phantom.acoustics import Scanner
from training.sources.phantom.layers import HALF_MM, STEP_MM, Fascia, Grain, Layer, Skin
from training.sources.phantom.structures import Bone, FatPad, LymphNode, Nerve, Outline, Structure, Tendon, Vessel

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
    depth_mm, width_mm = HEIGHT * scanner.spacing_mm, WIDTH * scanner.spacing_mm
    skin = Skin(rng.uniform(1.0, 2.0), _waves(rng, (1.6, 1.1, 0.5), (70, 25, 8)))
    fascias = _fascias(rng, depth_mm)
    layers, muscle_db = _layers(rng, len(fascias))
    nerve = _nerve(rng, fascias, depth_mm, width_mm, muscle_db)
    stand_in = _look_alike(rng, _resized(nerve.outline, rng), muscle_db) if rng.random() < 0.55 else None
    room = 0.5 * width_mm - nerve.outline.reach_mm - 1.0
    return Subject(
        scanner=scanner,
        skin=skin,
        layers=layers,
        fascias=fascias,
        mottle=Grain.drawn(rng, 3.0, 1.8),
        nerve=nerve,
        standing_in=stand_in,
        neighbours=_neighbours(rng, nerve.outline, depth_mm, width_mm, muscle_db),
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
            waves=_waves(rng, (rng.uniform(0.5, 3.5) if k else 0.6, 0.5, 0.07), (110, 40, 10)),
            brightness_db=rng.uniform(-15, -3) if k else rng.uniform(-8, 0),
            sheen=_waves(rng, (4, 4, 3), (28, 11, 4)),
            thickness_mm=rng.uniform(0.05, 0.12),
            strand_mm=rng.uniform(0.5, 1.0),
        )
        for k, depth in enumerate(depths)
    ]


def _layers(rng: np.random.Generator, fascias: int) -> tuple[list[Layer], float]:
    """Fat, then muscle below each fascia, the deepest sometimes loose connective tissue; and the muscle's dB."""
    muscle_db = rng.uniform(-43, -35)
    fat = Layer(muscle_db + rng.uniform(2, 8), rng.uniform(5, 9), 0.8, Grain.drawn(rng, 2.6, 0.1), 0.0)
    layers = [fat]
    for k in range(fascias):
        connective = k and rng.random() < 0.3
        ground = muscle_db + (rng.uniform(3, 8) if connective else rng.uniform(-2, 2))
        grain = Grain.drawn(rng, rng.uniform(0.5, 1.4), rng.uniform(0.06, 0.11))
        layers.append(Layer(ground, rng.uniform(8, 14), rng.uniform(0.9, 1.7), grain, rng.uniform(-0.12, 0.12)))
    return layers, muscle_db


def _nerve(
    rng: np.random.Generator, fascias: list[Fascia], depth_mm: float, width_mm: float, muscle_db: float
) -> Nerve:
    """On a fascia between muscles, 1.7 to 4.5 % of the frame."""
    area = rng.uniform(0.017, 0.045) * depth_mm * width_mm
    aspect = rng.uniform(1.15, 2.4)
    half_height = np.sqrt(area / np.pi / aspect)
    middle = int(2 * HALF_MM / STEP_MM) // 2
    beds = [fascia.profile(0.0)[middle] for fascia in fascias[1:]]
    bed = float(min(beds, key=lambda z: abs(z - depth_mm * rng.uniform(0.3, 0.55))))
    z = float(np.clip(bed, 0.22 * depth_mm + half_height, 0.78 * depth_mm - half_height))
    outline = Outline(
        x_mm=0.0,
        z_mm=z,
        half_width_mm=half_height * aspect,
        half_height_mm=half_height,
        tilt=rng.normal() * 0.15,
        lobes=tuple((order, rng.uniform(0, 0.07), rng.uniform(0, 2 * np.pi)) for order in (2, 3, 4)),
        drift=(rng.normal() * 0.08, rng.normal() * 0.02),
    )
    # From the few large fascicles of a plexus to the honeycomb of a nerve of the limb.
    stroma_db = muscle_db + rng.uniform(9, 16)
    return Nerve(
        outline=outline,
        fascicles=_fascicles(rng, int(rng.choice([3, 4, 6, 9, 13, 18])), aspect),
        stroma_db=stroma_db,
        fascicle_db=muscle_db + rng.uniform(-8, -1),
        rim_db=stroma_db + rng.uniform(2, 6),
    )


def _fascicles(rng: np.random.Generator, count: int, aspect: float) -> np.ndarray:
    """float (count, 3): u, v and radius, in half axes: the best of many places each, far from the others."""
    placed = np.empty((0, 3))
    typical = 0.72 / np.sqrt(count)
    scale = np.array([np.sqrt(aspect), 1 / np.sqrt(aspect)])
    for _ in range(count):
        radius = typical * rng.uniform(0.75, 1.2)
        angle, distance = rng.uniform(0, 2 * np.pi, 60), np.sqrt(rng.uniform(0, 1, 60))
        spots = np.stack([np.cos(angle), np.sin(angle)], axis=1) * (distance * (0.95 - 0.8 * radius))[:, None]
        if len(placed):
            apart = np.linalg.norm((spots[:, None] - placed[None, :, :2]) * scale, axis=2) - placed[None, :, 2]
            best = int(apart.min(axis=1).argmax())
            radius = min(radius, max(0.08, float(apart[best].min()) - 0.03))
        else:
            best = 0
        placed = np.vstack([placed, [*spots[best], radius]])
    return placed


def _resized(outline: Outline, rng: np.random.Generator) -> Outline:
    size = rng.uniform(0.7, 1.0)
    return Outline(
        outline.x_mm + rng.normal(),
        outline.z_mm + rng.normal() * 0.5,
        outline.half_width_mm * size,
        outline.half_height_mm * size,
        outline.tilt,
        outline.lobes,
    )


def _look_alike(rng: np.random.Generator, outline: Outline, muscle_db: float) -> Structure:
    kind = rng.choice(["tendon", "node", "vessel"])
    if kind == "tendon":
        fibrils = Grain.drawn(rng, 0.25, 0.13).first[:64, :64]
        return Tendon(outline, fibrils, muscle_db + rng.uniform(10, 15))
    if kind == "node":
        return LymphNode(outline, muscle_db + rng.uniform(-6, -2), muscle_db + rng.uniform(8, 14))
    return Vessel(outline, rng.uniform(-62, -52), wall_db=rng.uniform(-22, -10))


def _neighbours(
    rng: np.random.Generator, nerve: Outline, depth_mm: float, width_mm: float, muscle_db: float
) -> list[Structure]:
    """Vessels beside the nerve or away from it, now and then a look-alike, and bone below: none overlaps another."""
    taken = [nerve]
    found: list[Structure] = []
    for wanted in rng.permutation(["artery", "vein", "look-alike"]):
        if rng.random() < 0.45:
            continue
        round_mm = rng.uniform(1.6, 3.4)
        flat = rng.uniform(0.45, 0.8) if wanted != "artery" else rng.uniform(0.9, 1.0)
        outline = _free_place(rng, taken, round_mm / np.sqrt(flat), round_mm * np.sqrt(flat), depth_mm, width_mm)
        if outline is None:
            continue
        taken.append(outline)
        found.append(
            _look_alike(rng, outline, muscle_db)
            if wanted == "look-alike"
            else Vessel(outline, rng.uniform(-62, -52), wall_db=rng.uniform(-14, -6) if wanted == "artery" else rng.uniform(-24, -14))
        )
    if rng.random() < 0.4:
        bone = _bone(rng, taken, depth_mm, width_mm)
        found.insert(0, bone)
    pad = replace(nerve, half_width_mm=nerve.half_width_mm * rng.uniform(1.1, 1.6), half_height_mm=nerve.half_height_mm + 0.8)
    return [FatPad(pad, rng.uniform(1, 6)), *found]


def _free_place(
    rng: np.random.Generator,
    taken: list[Outline],
    half_width_mm: float,
    half_height_mm: float,
    depth_mm: float,
    width_mm: float,
) -> Outline | None:
    """A place that nothing has taken, beside the nerve rather than far from it; None where there is none."""
    for spread in np.linspace(0.2, 0.9, 25):
        x, z = rng.normal() * spread * width_mm, rng.uniform(0.3, 0.75) * depth_mm
        place = Outline(x, z, half_width_mm, half_height_mm, rng.normal() * 0.15, ((2, rng.uniform(0, 0.05), 0.0),))
        if all(np.hypot(x - o.x_mm, z - o.z_mm) > place.reach_mm + o.reach_mm + 0.4 for o in taken):
            return place
    return None


def _bone(rng: np.random.Generator, taken: list[Outline], depth_mm: float, width_mm: float) -> Bone:
    """A rib or a shaft: its top lies below everything else that is drawn."""
    radius = rng.uniform(6, 14)
    lowest = max(o.z_mm + o.half_height_mm * 1.15 for o in taken)
    top = max(lowest + 1.0, rng.uniform(0.55, 0.85) * depth_mm)
    return Bone(Outline(rng.uniform(-0.6, 0.6) * width_mm, top + radius * 0.8, radius, radius * 0.8))
