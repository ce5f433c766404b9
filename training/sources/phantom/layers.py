"""The layered background: skin, fat, muscles between bright fascias, each with a grain of its own.

Everything is a function of the subject's own millimetres, so that a moved probe meets the same tissue again.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from training.sources.phantom.acoustics import TISSUE_LOSS, Medium
from training.sources.phantom.structures import Plane

HALF_MM = 64.0  # the profiles cover this far to either side
STEP_MM = 0.05
GRAIN_MM = 0.12  # of a texture's pixel
GRAIN_SHAPE = (384, 768)
DECORRELATION_MM = 9.0  # along the limb; grain fades into another over this way


@dataclass(frozen=True)
class Grain:
    """Two independent textures, float32 of GRAIN_SHAPE, each about standard normal; the slice blends them."""

    first: np.ndarray
    second: np.ndarray

    @classmethod
    def drawn(cls, rng: np.random.Generator, length_mm: float, thickness_mm: float) -> "Grain":
        """Streaks of about this length and thickness."""

        def streaks() -> np.ndarray:
            noise = rng.standard_normal(GRAIN_SHAPE, dtype=np.float32)
            blurred = cv2.GaussianBlur(noise, (0, 0), length_mm / GRAIN_MM, None, thickness_mm / GRAIN_MM)
            return (blurred - blurred.mean()) / blurred.std()

        return cls(streaks(), streaks())

    def at(self, u_mm: np.ndarray, v_mm: np.ndarray, slice_mm: float) -> np.ndarray:
        """float32, about standard normal, of the shape of u_mm (along the streaks) and v_mm (across)."""
        angle = slice_mm / DECORRELATION_MM
        here = np.float32(np.cos(angle)) * self.first + np.float32(np.sin(angle)) * self.second
        u, v = ((u_mm + np.float32(HALF_MM)) / np.float32(GRAIN_MM), v_mm / np.float32(GRAIN_MM))
        return cv2.remap(here, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


@dataclass(frozen=True)
class Fascia:
    """A wavy interface: depth_mm plus waves (amplitude_mm, length_mm, phase, phase a mm along the limb).

    brightness_db: of its mirror echo where it lies across the beam; sheen: waves of the same kind, in dB,
    that make it brighter here and break it there; strand_mm, strand, strand_db: distance, its waves, and
    brightness of a second line below it.
    """

    depth_mm: float
    waves: tuple[tuple[float, float, float, float], ...]
    brightness_db: float
    sheen: tuple[tuple[float, float, float, float], ...]
    thickness_mm: float
    strand_mm: float
    strand: tuple[tuple[float, float, float, float], ...]
    strand_db: float

    def profile(self, slice_mm: float) -> np.ndarray:
        """Depth in mm along the whole subject, float32, every STEP_MM from -HALF_MM to HALF_MM."""
        return self.depth_mm + _sum_of(self.waves, slice_mm)

    def reflect(self, slice_mm: float, profile: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Along the profile: amplitudes of the mirror echo and of the second strand's, and the gap in mm.

        An interface fades where it leans away from the beam.
        """
        facing = np.exp(-((np.gradient(profile, STEP_MM) / 0.35) ** 2))
        sheen = _sum_of(self.sheen, slice_mm)
        elsewhere = np.roll(sheen, 300)
        mirror = 10 ** ((self.brightness_db + np.minimum(sheen, 2)) / 20) * facing
        second = 10 ** ((self.brightness_db + self.strand_db + 1.5 * np.minimum(elsewhere, 2)) / 20) * facing
        gap = np.maximum(self.strand_mm + _sum_of(self.strand, slice_mm), 0.2)
        return (mirror.astype(np.float32), second.astype(np.float32), gap.astype(np.float32))


@dataclass(frozen=True)
class Layer:
    """Tissue between two fascias: its backscatter, and streaks on it (fat's septa, muscle's perimysium)."""

    backscatter_db: float
    streaks_db: float  # how much a streak of one deviation above the threshold rises
    threshold: float  # deviations; below it the ground shows
    grain: Grain
    lean: float  # of the streaks against the fascia above


@dataclass(frozen=True)
class Skin:
    """The contact with the probe: thickness, and waves of extra loss, dB a cm and MHz, where it is poor."""

    thickness_mm: float
    poor_contact: tuple[tuple[float, float, float, float], ...]

    def loss(self, slice_mm: float) -> np.ndarray:
        """One-way loss within the skin along the whole subject, float32."""
        return TISSUE_LOSS + np.clip(_sum_of(self.poor_contact, slice_mm), 0, 4).astype(np.float32)


def paint_layers(
    medium: Medium, plane: Plane, layers: list[Layer], fascias: list[Fascia], mottle: Grain, skin: Skin
) -> None:
    """Fill the medium: layers[0] above fascias[0], layers[1] below it, ...; then fascias and skin."""
    x, z = plane.x_mm, plane.z_mm
    place = np.clip((x + np.float32(HALF_MM)) * np.float32(1 / STEP_MM), 0, 2 * HALF_MM / STEP_MM).astype(np.int32)
    tops = [np.zeros(int(2 * HALF_MM / STEP_MM) + 1, np.float32)]
    for fascia in fascias:
        # Never above the one before: where they would cross, the layer between them tapers off.
        tops.append(np.maximum(fascia.profile(plane.slice_mm), tops[-1] + 0.3))
    depths = [z - top[place] for top in tops]
    for layer, depth, below in zip(layers, depths, [*depths[1:], None], strict=True):
        _fill(medium, layer, x, depth, below, plane.slice_mm)
    for fascia, top, depth in zip(fascias, tops[1:], depths[1:], strict=True):
        _draw_fascia(medium, fascia, top, depth, place, plane.slice_mm)
    medium.backscatter += np.float32(2.5) * mottle.at(x, z, plane.slice_mm)
    medium.loss.fill(TISSUE_LOSS)
    _draw_skin(medium, z, skin, skin.loss(plane.slice_mm)[place[0]])


def _rows(wanted: np.ndarray) -> slice:
    """The rows that hold any of the wanted pixels: most layers fill a part of the frame only."""
    rows = np.flatnonzero(wanted.any(axis=1))
    return slice(rows[0], rows[-1] + 1) if rows.size else slice(0, 0)


def _fill(
    medium: Medium, layer: Layer, x: np.ndarray, depth: np.ndarray, below: np.ndarray | None, slice_mm: float
) -> None:
    inside = depth >= 0 if below is None else (depth >= 0) & (below < 0)
    rows = _rows(inside)
    if rows.stop == 0:
        return
    inside, x, depth = inside[rows], x[rows], depth[rows]
    streak = layer.grain.at(x, depth + np.float32(8) + np.float32(layer.lean) * x, slice_mm)
    rise = np.maximum(streak - np.float32(layer.threshold), 0) * np.float32(layer.streaks_db)
    ground = np.float32(layer.backscatter_db) + rise
    np.copyto(medium.backscatter[rows], ground, where=inside)
    # Only the strong streaks are smooth enough to mirror.
    glint = np.clip(rise * np.float32(0.25) - np.float32(0.5), 0, 1)
    glint *= np.exp((np.minimum(ground, -16) + 2) * np.float32(np.log(10) / 20))
    np.copyto(medium.specular[rows], glint, where=inside)


def _draw_fascia(
    medium: Medium, fascia: Fascia, top: np.ndarray, depth: np.ndarray, place: np.ndarray, slice_mm: float
) -> None:
    rows = _rows(np.abs(depth) < 3)
    depth, place = depth[rows], place[rows]
    mirror, second, gap = fascia.reflect(slice_mm, top)
    line = np.exp(-0.5 * (depth / np.float32(fascia.thickness_mm)) ** 2)
    strand = np.exp(-0.5 * ((depth - gap[place]) / np.float32(fascia.thickness_mm)) ** 2)
    both = line * mirror[place] + strand * second[place]
    medium.specular[rows] += both
    scattered = 20 * np.log10(both + np.float32(1e-4)) - np.float32(4)
    np.maximum(medium.backscatter[rows], scattered, out=medium.backscatter[rows])


def _draw_skin(medium: Medium, z: np.ndarray, skin: Skin, loss: np.ndarray) -> None:
    """Skin, and the probe's own ringing in the first millimetre."""
    within = z < np.float32(skin.thickness_mm)
    medium.backscatter[within] = -27
    np.copyto(medium.loss, loss, where=within)
    near = np.exp(-np.maximum(z, 0) / np.float32(0.5))
    medium.specular += np.float32(0.35) * near * (1 + np.cos(z * np.float32(2 * np.pi / 0.45)))
    medium.specular += np.float32(0.09) * np.exp(-0.5 * ((z - np.float32(skin.thickness_mm)) / np.float32(0.12)) ** 2)


def _sum_of(waves: tuple[tuple[float, float, float, float], ...], slice_mm: float) -> np.ndarray:
    x = np.arange(-HALF_MM, HALF_MM + STEP_MM / 2, STEP_MM, dtype=np.float32)
    total = np.zeros_like(x)
    for amplitude, length_mm, phase, pace in waves:
        total += np.float32(amplitude) * np.sin(np.float32(2 * np.pi / length_mm) * x + phase + pace * slice_mm)
    return total
