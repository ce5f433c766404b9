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
        u, v = (u_mm + np.float32(HALF_MM)) / np.float32(GRAIN_MM), v_mm / np.float32(GRAIN_MM)
        return cv2.remap(here, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


@dataclass(frozen=True)
class Fascia:
    """A wavy interface: depth_mm plus waves (amplitude_mm, length_mm, phase, phase a mm along the limb).

    brightness_db: of its mirror echo where it lies across the beam; sheen: waves of the same kind, in dB, that make
    it brighter here and break it there; strand_mm: distance of a second, fainter line below it.
    """

    depth_mm: float
    waves: tuple[tuple[float, float, float, float], ...]
    brightness_db: float
    sheen: tuple[tuple[float, float, float, float], ...]
    thickness_mm: float
    strand_mm: float

    def profile(self, slice_mm: float) -> np.ndarray:
        """Depth in mm along the whole subject, float32, every STEP_MM from -HALF_MM to HALF_MM."""
        return self.depth_mm + _sum_of(self.waves, slice_mm)

    def reflect(self, slice_mm: float, profile: np.ndarray) -> np.ndarray:
        """Amplitude of the mirror echo along the profile: it fades where the interface leans away from the beam."""
        lean = np.gradient(profile, STEP_MM)
        shine_db = self.brightness_db + np.minimum(_sum_of(self.sheen, slice_mm), 2)
        return (10 ** (shine_db / 20) * np.exp(-((lean / 0.35) ** 2))).astype(np.float32)


@dataclass(frozen=True)
class Layer:
    """Tissue between two fascias: backscatter, and streaks (fat's septa, muscle's perimysium) that lie on it."""

    backscatter_db: float
    streaks_db: float  # how much a streak of one deviation above the threshold rises
    threshold: float  # deviations; below it the ground shows
    grain: Grain
    lean: float  # of the streaks against the fascia above


@dataclass(frozen=True)
class Skin:
    """The contact with the probe: thickness_mm, and waves of extra loss (dB a cm and MHz) where it is poor."""

    thickness_mm: float
    poor_contact: tuple[tuple[float, float, float, float], ...]

    def loss(self, slice_mm: float) -> np.ndarray:
        """One-way loss within the skin along the whole subject, float32."""
        return TISSUE_LOSS + np.clip(_sum_of(self.poor_contact, slice_mm), 0, 4).astype(np.float32)


def paint_layers(
    medium: Medium, plane: Plane, layers: list[Layer], fascias: list[Fascia], mottle: Grain, skin: Skin
) -> None:
    """Fill the medium with layers[0] above fascias[0], layers[1] below it, ... and draw the fascias and the skin."""
    x, z = plane.x_mm, plane.z_mm
    place = np.clip((x + np.float32(HALF_MM)) * np.float32(1 / STEP_MM), 0, 2 * HALF_MM / STEP_MM).astype(np.int32)
    top = np.zeros(int(2 * HALF_MM / STEP_MM) + 1, np.float32)
    depth = z
    for layer, fascia in zip(layers, [None, *fascias], strict=True):
        if fascia is not None:
            # Never above the one before: where they would cross, the layer between them tapers off.
            top = np.maximum(fascia.profile(plane.slice_mm), top + 0.3).astype(np.float32)
            depth = z - top[place]
        inside = depth >= 0
        streak = layer.grain.at(x, depth + np.float32(8) + np.float32(layer.lean) * x, plane.slice_mm)
        rise = np.maximum(streak - np.float32(layer.threshold), 0) * np.float32(layer.streaks_db)
        ground = np.float32(layer.backscatter_db) + rise
        np.copyto(medium.backscatter, ground, where=inside)
        glint = np.exp((np.minimum(ground, -16) + 2) * np.float32(np.log(10) / 20)) * (rise > 4)
        np.copyto(medium.specular, glint, where=inside)
        if fascia is not None:
            _draw_fascia(medium, fascia, depth, fascia.reflect(plane.slice_mm, top)[place])
    medium.backscatter += np.float32(2.5) * mottle.at(x, z, plane.slice_mm)
    medium.loss.fill(TISSUE_LOSS)
    _draw_skin(medium, z, skin, skin.loss(plane.slice_mm)[place[0]])


def _draw_fascia(medium: Medium, fascia: Fascia, depth: np.ndarray, mirror: np.ndarray) -> None:
    line = np.exp(-0.5 * (depth / np.float32(fascia.thickness_mm)) ** 2)
    strand = np.exp(-0.5 * ((depth - np.float32(fascia.strand_mm)) / np.float32(0.7 * fascia.thickness_mm)) ** 2)
    both = (line + np.float32(0.35) * strand) * mirror
    medium.specular += both
    np.maximum(medium.backscatter, 20 * np.log10(both + np.float32(1e-4)) - np.float32(6), out=medium.backscatter)


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
