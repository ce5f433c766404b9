"""Place the nerve and other structures in a subject, and draw the appearance of each."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from training.data.sources.phantom.layers import HALF_WIDTH_MM, STEP_MM, Fascia, Texture
from training.data.sources.phantom.structures import (
    TENDON_TEXTURE_PX,
    Bone,
    FatPad,
    LymphNode,
    Nerve,
    Outline,
    Structure,
    Tendon,
    Vessel,
)

BLOOD_DB = (-62, -52)  # range of the backscatter of blood
CANDIDATE_CENTRES = 60  # random positions that are compared for each fascicle


@dataclass(frozen=True)
class Region:
    """The size of a frame in mm, and the backscatter of muscle, to which all other tissue is relative."""

    depth_mm: float
    width_mm: float
    muscle_db: float


def place_nerve(rng: np.random.Generator, region: Region, fascias: list[Fascia]) -> Nerve:
    """Return a nerve on a fascia between muscles, at lateral position 0, with 1.7 to 4.5 % of the frame's area."""
    area = rng.uniform(0.017, 0.045) * region.depth_mm * region.width_mm
    aspect = rng.uniform(1.15, 2.4)
    half_height = float(np.sqrt(area / np.pi / aspect))
    middle = int(HALF_WIDTH_MM / STEP_MM)
    fascia_depths = [float(fascia.profile(0.0)[middle]) for fascia in fascias[1:]]
    usual_depth = region.depth_mm * rng.uniform(0.3, 0.55)
    depth = min(fascia_depths, key=lambda depth_mm: abs(depth_mm - usual_depth))
    outline = Outline(
        lateral_mm=0.0,
        depth_mm=float(np.clip(depth, 0.22 * region.depth_mm + half_height, 0.78 * region.depth_mm - half_height)),
        half_width_mm=half_height * aspect,
        half_height_mm=half_height,
        tilt=rng.normal() * 0.15,
        lobes=_draw_lobes(rng, 0.09),
        drift=(rng.normal() * 0.08, rng.normal() * 0.02),
    )
    return draw_nerve(rng, region, outline)


def draw_nerve(rng: np.random.Generator, region: Region, outline: Outline) -> Nerve:
    """Return a nerve with this outline."""
    stroma_db = region.muscle_db + rng.uniform(3, 11)
    # From the few large fascicles of a plexus to the honeycomb pattern of a nerve of the limb.
    count = int(rng.choice([3, 4, 6, 9, 13, 18]))
    return Nerve(
        outline=outline,
        fascicles=_draw_fascicles(rng, count, outline.half_width_mm / outline.half_height_mm),
        stroma_db=stroma_db,
        fascicle_db=region.muscle_db + rng.uniform(-8, -1),
        epineurium_db=stroma_db + rng.uniform(1, 5),
    )


def place_look_alike(rng: np.random.Generator, region: Region, nerve: Outline) -> Structure:
    """Return a structure that resembles a nerve, in the nerve's place, for frames without the nerve."""
    size = rng.uniform(0.7, 1.0)
    outline = replace(
        nerve,
        lateral_mm=nerve.lateral_mm + rng.normal(),
        depth_mm=nerve.depth_mm + rng.normal() * 0.5,
        half_width_mm=nerve.half_width_mm * size,
        half_height_mm=nerve.half_height_mm * size,
        drift=(0.0, 0.0),
    )
    return _draw_look_alike(rng, region, outline)


def place_other_structures(
    rng: np.random.Generator, region: Region, nerves: list[Outline], more: Sequence[str] = ()
) -> list[Structure]:
    """Return fat around the first nerve, vessels, sometimes a look-alike, and bone below. Only fat overlaps a nerve.

    more: kinds of structures that are placed besides: artery, vein or look-alike.
    """
    outlines, structures = list(nerves), list[Structure]()
    for kind in rng.permutation(["artery", "vein", "look-alike"]):
        if rng.random() >= 0.45:
            structures += _place_structure(rng, region, outlines, kind)
    for kind in more:
        structures += _place_structure(rng, region, outlines, kind)
    bone = [_place_bone(rng, region, outlines)] if rng.random() < 0.33 else []
    widening = rng.uniform(1.1, 1.6)
    nerve = nerves[0]
    fat = replace(nerve, half_width_mm=nerve.half_width_mm * widening, half_height_mm=nerve.half_height_mm + 0.8)
    return [FatPad(fat, rng.uniform(1, 6)), *bone, *structures]


def _place_structure(rng: np.random.Generator, region: Region, outlines: list[Outline], kind: str) -> list[Structure]:
    """Return a structure that overlaps no other, near the nerve if possible; [] if there is no place.

    outlines: of the nerves and other structures; that of the new one is added.
    kind: artery, vein or look-alike.
    """
    aspect = rng.uniform(0.9, 1.0) if kind == "artery" else rng.uniform(0.45, 0.8)
    outline = find_free_place(rng, region, outlines, aspect)
    if outline is None:
        return []
    outlines.append(outline)
    return [_draw_look_alike(rng, region, outline) if kind == "look-alike" else _draw_vessel(rng, outline, kind)]


def _draw_look_alike(rng: np.random.Generator, region: Region, outline: Outline) -> Structure:
    kind = rng.choice(["tendon", "node", "vessel"])
    if kind == "tendon":
        fibrils = Texture.draw(rng, 0.25, 0.13).first[:TENDON_TEXTURE_PX, :TENDON_TEXTURE_PX]
        return Tendon(outline, fibrils, region.muscle_db + rng.uniform(8, 14))
    if kind == "node":
        cortex_db, hilum_db = region.muscle_db + rng.uniform(-6, -2), region.muscle_db + rng.uniform(8, 14)
        return LymphNode(outline, cortex_db, hilum_db)
    return Vessel(outline, rng.uniform(*BLOOD_DB), rng.uniform(-22, -10))


def _draw_vessel(rng: np.random.Generator, outline: Outline, kind: str) -> Vessel:
    """kind: artery or vein."""
    wall_db = rng.uniform(-14, -6) if kind == "artery" else rng.uniform(-24, -14)
    return Vessel(outline, rng.uniform(*BLOOD_DB), wall_db)


def find_free_place(rng: np.random.Generator, region: Region, outlines: list[Outline], aspect: float) -> Outline | None:
    """Return an outline that overlaps no other, near the nerve if possible; None if there is no place.

    aspect: height divided by width.
    """
    radius = rng.uniform(1.6, 3.4)
    half_width, half_height = radius / np.sqrt(aspect), radius * np.sqrt(aspect)
    for spread in np.linspace(0.2, 0.9, 25):
        x, z = rng.normal() * spread * region.width_mm, rng.uniform(0.3, 0.75) * region.depth_mm
        place = Outline(x, z, half_width, half_height, rng.normal() * 0.15, _draw_lobes(rng, 0.03))
        if all(place.is_apart(other) for other in outlines):
            return place
    return None


def _place_bone(rng: np.random.Generator, region: Region, outlines: list[Outline]) -> Bone:
    """Return a rib or a shaft, below all other outlines."""
    half_width = rng.uniform(9, 22)
    half_height = half_width * rng.uniform(0.5, 0.8)
    lowest = max(outline.depth_mm + outline.half_height_mm * 1.15 for outline in outlines)
    top = max(lowest + 1.0, rng.uniform(0.55, 0.85) * region.depth_mm)
    x = rng.uniform(-0.7, 0.7) * region.width_mm
    return Bone(Outline(x, top + half_height, half_width, half_height, lobes=_draw_lobes(rng, 0.04)))


def _draw_lobes(rng: np.random.Generator, amplitude: float) -> tuple[tuple[int, float, float], ...]:
    """Return deviations from an ellipse. High orders have a low amplitude: otherwise the outline has corners."""
    return tuple((order, rng.uniform(0, amplitude * 4 / order**2), rng.uniform(0, 2 * np.pi)) for order in (2, 3, 4))


def _draw_fascicles(rng: np.random.Generator, count: int, aspect: float) -> np.ndarray:
    """Return fascicles that do not overlap: float (count, 3), centre (u, v) and radius in units of the semi-axes.

    Each centre is the random position with the largest distance from the fascicles before it.
    """
    fascicles = np.empty((0, 3))
    typical_radius = 0.72 / np.sqrt(count)
    scale = np.array([np.sqrt(aspect), 1 / np.sqrt(aspect)])
    for _ in range(count):
        radius = typical_radius * rng.uniform(0.75, 1.2)
        angle = rng.uniform(0, 2 * np.pi, CANDIDATE_CENTRES)
        distance = np.sqrt(rng.uniform(0, 1, CANDIDATE_CENTRES))
        centres = np.stack([np.cos(angle), np.sin(angle)], axis=1) * (distance * (0.95 - 0.8 * radius))[:, None]
        best = 0
        if len(fascicles):
            between_centres = np.linalg.norm((centres[:, None] - fascicles[None, :, :2]) * scale, axis=2)
            gaps = between_centres - fascicles[None, :, 2]
            best = int(gaps.min(axis=1).argmax())
            radius = min(radius, max(0.08, float(gaps[best].min()) - 0.03))
        fascicles = np.vstack([fascicles, [*centres[best], radius]])
    return fascicles
