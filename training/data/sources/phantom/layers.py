"""The layered tissue: skin, fat, and muscles between fascias, each with its own texture.

All is a function of the subject's coordinates in millimetres, so a moved probe images the same tissue again.
"""

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from training.data.sources.phantom.bmode_simulation import TISSUE_ATTENUATION, Medium
from training.data.sources.phantom.structures import Plane

HALF_WIDTH_MM = 64.0  # profiles reach this far to either side of the nerve
STEP_MM = 0.05  # lateral sampling of profiles
TEXTURE_PIXEL_MM = 0.12
TEXTURE_SHAPE = (384, 768)  # rows, columns
DECORRELATION_MM = 9.0  # elevation over which one texture changes into another
SKIN_BACKSCATTER_DB = -27


class Wave(NamedTuple):
    """A sine over the lateral position, whose phase changes with elevation."""

    amplitude: float  # mm, or dB, or dB/(cm MHz)
    length_mm: float
    phase: float  # radians
    elevation_phase: float  # radians/mm


Waves = tuple[Wave, ...]


@dataclass(frozen=True)
class Texture:
    """Two independent textures, float32 of TEXTURE_SHAPE, each about standard normal. Elevation blends them."""

    first: np.ndarray
    second: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator, length_mm: float, thickness_mm: float) -> "Texture":
        """Return textures of streaks of about this length and thickness."""

        def streaks() -> np.ndarray:
            noise = rng.standard_normal(TEXTURE_SHAPE, dtype=np.float32)
            sigma_x, sigma_y = length_mm / TEXTURE_PIXEL_MM, thickness_mm / TEXTURE_PIXEL_MM
            blurred = cv2.GaussianBlur(noise, (0, 0), sigma_x, None, sigma_y)
            return (blurred - blurred.mean()) / blurred.std()

        return cls(streaks(), streaks())

    def sample(self, along_mm: np.ndarray, across_mm: np.ndarray, elevation_mm: float) -> np.ndarray:
        """Return the texture at these coordinates along and across the streaks: float32, of their shape."""
        angle = elevation_mm / DECORRELATION_MM
        blend = np.float32(np.cos(angle)) * self.first + np.float32(np.sin(angle)) * self.second
        column = (along_mm + np.float32(HALF_WIDTH_MM)) / np.float32(TEXTURE_PIXEL_MM)
        row = across_mm / np.float32(TEXTURE_PIXEL_MM)
        return cv2.remap(blend, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


@dataclass(frozen=True)
class Fascia:
    """A wavy interface between two layers, with a second line below it.

    depth_mm, depth_waves: its depth, and waves of it.
    specular_db, specular_waves: its specular reflection where it is perpendicular to the beam, and waves of it, which
        make it brighter in some places and interrupt it in others.
    thickness_mm: standard deviation of its profile.
    second_gap_mm, second_gap_waves, second_db: the second line's distance, waves of it, and its echo relative to the
        first line.
    """

    depth_mm: float
    depth_waves: Waves
    specular_db: float
    specular_waves: Waves
    thickness_mm: float
    second_gap_mm: float
    second_gap_waves: Waves
    second_db: float

    def profile(self, elevation_mm: float) -> np.ndarray:
        """Return the depth in mm, float32, every STEP_MM from -HALF_WIDTH_MM to HALF_WIDTH_MM."""
        return self.depth_mm + _sum_waves(self.depth_waves, elevation_mm)

    def reflection(self, elevation_mm: float, profile: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the amplitudes of both lines' specular echoes and the gap between them in mm, along the profile.

        An interface fades where it is not perpendicular to the beam.
        """
        incidence = np.exp(-((np.gradient(profile, STEP_MM) / 0.35) ** 2))
        change_db = _sum_waves(self.specular_waves, elevation_mm)
        second_change_db = np.roll(change_db, 300)
        first = 10 ** ((self.specular_db + np.minimum(change_db, 2)) / 20) * incidence
        second = 10 ** ((self.specular_db + self.second_db + 1.5 * np.minimum(second_change_db, 2)) / 20) * incidence
        gap = np.maximum(self.second_gap_mm + _sum_waves(self.second_gap_waves, elevation_mm), 0.2)
        return first.astype(np.float32), second.astype(np.float32), gap.astype(np.float32)


@dataclass(frozen=True)
class Layer:
    """The tissue between two fascias: its backscatter, and bright streaks (septa of fat, perimysium of muscle)."""

    backscatter_db: float
    streak_db: float  # rise of the backscatter for each standard deviation of the texture above the threshold
    threshold: float  # of the texture, standard deviations
    texture: Texture
    slope: float  # of the streaks relative to the fascia above


@dataclass(frozen=True)
class Skin:
    """The skin under the probe: its thickness, and waves of extra attenuation where the acoustic contact is poor."""

    thickness_mm: float
    contact_waves: Waves

    def attenuation(self, elevation_mm: float) -> np.ndarray:
        """Return the one-way attenuation of the skin along the profile, float32, dB/(cm MHz)."""
        return TISSUE_ATTENUATION + np.clip(_sum_waves(self.contact_waves, elevation_mm), 0, 4).astype(np.float32)


@dataclass(frozen=True)
class Tissue:
    """The layered tissue of a subject.

    layers: the first above the first fascia, each other one below a fascia.
    backscatter_texture: slow changes of the backscatter in all layers.
    """

    skin: Skin
    layers: list[Layer]
    fascias: list[Fascia]
    backscatter_texture: Texture

    def paint(self, medium: Medium, plane: Plane) -> None:
        """Fill the medium with layers, then fascias and skin."""
        x, z, elevation_mm = plane.lateral_mm, plane.depth_mm, plane.elevation_mm
        last = 2 * HALF_WIDTH_MM / STEP_MM
        # The index of each pixel in a profile.
        index = np.clip((x + np.float32(HALF_WIDTH_MM)) * np.float32(1 / STEP_MM), 0, last).astype(np.int32)
        tops = [np.zeros(int(last) + 1, np.float32)]
        for fascia in self.fascias:
            # Where two fascias would cross, the layer between them becomes thin.
            tops.append(np.maximum(fascia.profile(elevation_mm), tops[-1] + 0.3))
        depths = [z - top[index] for top in tops]
        for layer, depth, depth_below in zip(self.layers, depths, [*depths[1:], None], strict=True):
            _paint_layer(medium, layer, x, depth, depth_below, elevation_mm)
        for fascia, top, depth in zip(self.fascias, tops[1:], depths[1:], strict=True):
            _paint_fascia(medium, depth, index, fascia.thickness_mm, fascia.reflection(elevation_mm, top))
        medium.backscatter_db += np.float32(2.5) * self.backscatter_texture.sample(x, z, elevation_mm)
        medium.attenuation.fill(TISSUE_ATTENUATION)
        _paint_skin(medium, z, self.skin.thickness_mm, self.skin.attenuation(elevation_mm)[index[0]])


def _rows_with(pixels: np.ndarray) -> slice:
    """Return the range of rows that hold any of the pixels. Most layers fill only a part of the frame."""
    rows = np.flatnonzero(pixels.any(axis=1))
    return slice(rows[0], rows[-1] + 1) if rows.size else slice(0, 0)


def _paint_layer(
    medium: Medium, layer: Layer, x: np.ndarray, depth: np.ndarray, depth_below: np.ndarray | None, elevation_mm: float
) -> None:
    """Paint a layer.

    depth, depth_below: mm below the layer's top and below the next layer's top.
    """
    inside = depth >= 0 if depth_below is None else (depth >= 0) & (depth_below < 0)
    rows = _rows_with(inside)
    if rows.stop == 0:
        return
    inside, x, depth = inside[rows], x[rows], depth[rows]
    texture = layer.texture.sample(x, depth + np.float32(8) + np.float32(layer.slope) * x, elevation_mm)
    streaks_db = np.maximum(texture - np.float32(layer.threshold), 0) * np.float32(layer.streak_db)
    backscatter_db = np.float32(layer.backscatter_db) + streaks_db
    np.copyto(medium.backscatter_db[rows], backscatter_db, where=inside)
    # Only bright streaks are smooth enough for specular reflection.
    specular = np.clip(streaks_db * np.float32(0.25) - np.float32(0.5), 0, 1)
    specular *= np.exp((np.minimum(backscatter_db, -16) + 2) * np.float32(np.log(10) / 20))
    np.copyto(medium.specular[rows], specular, where=inside)


def _paint_fascia(
    medium: Medium,
    depth: np.ndarray,
    index: np.ndarray,
    thickness_mm: float,
    reflection: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    """Paint both lines of a fascia.

    depth: mm below it.
    index: of each pixel in a profile.
    """
    rows = _rows_with(np.abs(depth) < 3)
    depth, index = depth[rows], index[rows]
    first, second, gap = reflection
    first_line = np.exp(-0.5 * (depth / np.float32(thickness_mm)) ** 2)
    second_line = np.exp(-0.5 * ((depth - gap[index]) / np.float32(thickness_mm)) ** 2)
    specular = first_line * first[index] + second_line * second[index]
    medium.specular[rows] += specular
    diffuse_db = 20 * np.log10(specular + np.float32(1e-4)) - np.float32(4)
    np.maximum(medium.backscatter_db[rows], diffuse_db, out=medium.backscatter_db[rows])


def _paint_skin(medium: Medium, z: np.ndarray, thickness_mm: float, attenuation: np.ndarray) -> None:
    """Paint the skin, its lower border, and the reverberation of the probe in the first millimetre."""
    inside = z < np.float32(thickness_mm)
    medium.backscatter_db[inside] = SKIN_BACKSCATTER_DB
    np.copyto(medium.attenuation, attenuation, where=inside)
    near_field = np.exp(-np.maximum(z, 0) / np.float32(0.5))
    medium.specular += np.float32(0.35) * near_field * (1 + np.cos(z * np.float32(2 * np.pi / 0.45)))
    medium.specular += np.float32(0.09) * np.exp(-0.5 * ((z - np.float32(thickness_mm)) / np.float32(0.12)) ** 2)


def _sum_waves(waves: Waves, elevation_mm: float) -> np.ndarray:
    x = np.arange(-HALF_WIDTH_MM, HALF_WIDTH_MM + STEP_MM / 2, STEP_MM, dtype=np.float32)
    total = np.zeros_like(x)
    for amplitude, length_mm, phase, elevation_phase in waves:
        argument = np.float32(2 * np.pi / length_mm) * x + phase + elevation_phase * elevation_mm
        total += np.float32(amplitude) * np.sin(argument)
    return total
