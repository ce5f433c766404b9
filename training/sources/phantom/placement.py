"""Where nerve, vessels, bone and look-alikes lie in a subject, and how each of them looks there."""

from dataclasses import dataclass, replace

import numpy as np

from training.sources.phantom.layers import HALF_MM, STEP_MM, Fascia, Grain
from training.sources.phantom.structures import (
    Bone,
    FatPad,
    LymphNode,
    Nerve,
    Outline,
    Structure,
    Tendon,
    Vessel,
)


@dataclass(frozen=True)
class Region:
    """What a frame takes in, and the backscatter of its muscle, which all other tissue is set against."""

    depth_mm: float
    width_mm: float
    muscle_db: float


def place_nerve(rng: np.random.Generator, region: Region, fascias: list[Fascia]) -> Nerve:
    """On a fascia between muscles at x 0, as large as 1.7 to 4.5 % of the frame."""
    area = rng.uniform(0.017, 0.045) * region.depth_mm * region.width_mm
    aspect = rng.uniform(1.15, 2.4)
    half_height = float(np.sqrt(area / np.pi / aspect))
    middle = int(HALF_MM / STEP_MM)
    beds = [float(fascia.profile(0.0)[middle]) for fascia in fascias[1:]]
    usual = region.depth_mm * rng.uniform(0.3, 0.55)
    bed = min(beds, key=lambda z_mm: abs(z_mm - usual))
    outline = Outline(
        x_mm=0.0,
        z_mm=float(np.clip(bed, 0.22 * region.depth_mm + half_height, 0.78 * region.depth_mm - half_height)),
        half_width_mm=half_height * aspect,
        half_height_mm=half_height,
        tilt=rng.normal() * 0.15,
        lobes=_lobes(rng, 0.09),
        drift=(rng.normal() * 0.08, rng.normal() * 0.02),
    )
    stroma_db = region.muscle_db + rng.uniform(3, 11)
    # From the few large fascicles of a plexus to the honeycomb of a nerve of the limb.
    count = int(rng.choice([3, 4, 6, 9, 13, 18]))
    return Nerve(
        outline=outline,
        fascicles=_fascicles(rng, count, aspect),
        stroma_db=stroma_db,
        fascicle_db=region.muscle_db + rng.uniform(-8, -1),
        rim_db=stroma_db + rng.uniform(1, 5),
    )


def stand_in(rng: np.random.Generator, region: Region, nerve: Outline) -> Structure:
    """A look-alike at the nerve's own place, for the frames where the nerve is not."""
    size = rng.uniform(0.7, 1.0)
    outline = replace(
        nerve,
        x_mm=nerve.x_mm + rng.normal(),
        z_mm=nerve.z_mm + rng.normal() * 0.5,
        half_width_mm=nerve.half_width_mm * size,
        half_height_mm=nerve.half_height_mm * size,
        drift=(0.0, 0.0),
    )
    return _look_alike(rng, region, outline)


def place_neighbours(rng: np.random.Generator, region: Region, nerve: Outline) -> list[Structure]:
    """The nerve's bed of fat, vessels, now and then a look-alike, and bone below: none overlaps the nerve."""
    taken, found = [nerve], list[Structure]()
    for wanted in rng.permutation(["artery", "vein", "look-alike"]):
        if rng.random() < 0.45:
            continue
        flat = rng.uniform(0.9, 1.0) if wanted == "artery" else rng.uniform(0.45, 0.8)
        outline = _free_place(rng, region, taken, flat)
        if outline is None:
            continue
        taken.append(outline)
        if wanted == "look-alike":
            found.append(_look_alike(rng, region, outline))
        else:
            wall_db = rng.uniform(-14, -6) if wanted == "artery" else rng.uniform(-24, -14)
            found.append(Vessel(outline, rng.uniform(-62, -52), wall_db))
    bone = [_bone(rng, region, taken)] if rng.random() < 0.33 else []
    wider = rng.uniform(1.1, 1.6)
    bed = replace(nerve, half_width_mm=nerve.half_width_mm * wider, half_height_mm=nerve.half_height_mm + 0.8)
    return [FatPad(bed, rng.uniform(1, 6)), *bone, *found]


def _look_alike(rng: np.random.Generator, region: Region, outline: Outline) -> Structure:
    kind = rng.choice(["tendon", "node", "vessel"])
    if kind == "tendon":
        fibrils = Grain.drawn(rng, 0.25, 0.13).first[:64, :64]
        return Tendon(outline, fibrils, region.muscle_db + rng.uniform(8, 14))
    if kind == "node":
        cortex_db, hilum_db = region.muscle_db + rng.uniform(-6, -2), region.muscle_db + rng.uniform(8, 14)
        return LymphNode(outline, cortex_db, hilum_db)
    return Vessel(outline, rng.uniform(-62, -52), rng.uniform(-22, -10))


def _free_place(rng: np.random.Generator, region: Region, taken: list[Outline], flat: float) -> Outline | None:
    """An outline where nothing lies yet, rather near the nerve than far; flat: its height over its width."""
    radius = rng.uniform(1.6, 3.4)
    half_width, half_height = radius / np.sqrt(flat), radius * np.sqrt(flat)
    for spread in np.linspace(0.2, 0.9, 25):
        x, z = rng.normal() * spread * region.width_mm, rng.uniform(0.3, 0.75) * region.depth_mm
        place = Outline(x, z, half_width, half_height, rng.normal() * 0.15, _lobes(rng, 0.03))
        if all(np.hypot(x - o.x_mm, z - o.z_mm) > place.reach_mm + o.reach_mm + 0.4 for o in taken):
            return place
    return None


def _bone(rng: np.random.Generator, region: Region, taken: list[Outline]) -> Bone:
    """A rib or a shaft: its top lies below everything else that is drawn."""
    half_width = rng.uniform(9, 22)
    half_height = half_width * rng.uniform(0.5, 0.8)
    lowest = max(outline.z_mm + outline.half_height_mm * 1.15 for outline in taken)
    top = max(lowest + 1.0, rng.uniform(0.55, 0.85) * region.depth_mm)
    x = rng.uniform(-0.7, 0.7) * region.width_mm
    return Bone(Outline(x, top + half_height, half_width, half_height, lobes=_lobes(rng, 0.04)))


def _lobes(rng: np.random.Generator, size: float) -> tuple[tuple[int, float, float], ...]:
    """Departures from an ellipse; the finer ones are smaller, or the outline would get corners."""
    return tuple((order, rng.uniform(0, size * 4 / order**2), rng.uniform(0, 2 * np.pi)) for order in (2, 3, 4))


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
            between = np.linalg.norm((spots[:, None] - placed[None, :, :2]) * scale, axis=2)
            apart = between - placed[None, :, 2]
            best = int(apart.min(axis=1).argmax())
            radius = min(radius, max(0.08, float(apart[best].min()) - 0.03))
        else:
            best = 0
        placed = np.vstack([placed, [*spots[best], radius]])
    return placed
