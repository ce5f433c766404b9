"""Structures in the tissue: nerve, vessel, bone, fat, and the nerve's look-alikes tendon and lymph node.

Each structure is a tube that crosses the imaging plane; it paints its cross-section into a medium. The appearance
follows sonographic anatomy: a nerve has a bright epineurium and dark fascicles (the honeycomb pattern; Silvestri et al.
1995, "Echotexture of peripheral nerves: correlation between US and histologic findings and criteria to differentiate
tendons"), a tendon has fibrils, a lymph node has a dark cortex around a bright hilum.
"""

from dataclasses import dataclass

import numpy as np

from training.data.frame_mask_pair import NERVE, VESSEL
from training.data.sources.phantom.bmode_simulation import Medium

SEARCH_PX = 4  # the window of a cross-section is searched on every fourth pixel; MARGIN_MM is wider than that
MARGIN_MM = 1.0  # around an outline
MIN_GAP_MM = 0.4  # between structures
# Anisotropy: fibres reflect the beam away from the probe unless it meets them at a right angle. Tendons lose more of
# their echo than nerves (Martinoli et al. 2002, "Ultrasound of tendons and nerves").
ANISOTROPY_ANGLE = 0.26  # radians, 15 degrees
NERVE_ANISOTROPY_DB, TENDON_ANISOTROPY_DB = 7, 15
TENDON_TEXTURE_PX = 64  # rows and columns of a tendon's texture


@dataclass(frozen=True)
class Plane:
    """The imaging plane in the subject's coordinates.

    lateral_mm, depth_mm: of each pixel, float32 (rows, columns).
    elevation_mm: position of the plane along the limb.
    beam_angle: between the beam and the plane at a right angle to the nerve, radians.
    """

    lateral_mm: np.ndarray
    depth_mm: np.ndarray
    elevation_mm: float
    beam_angle: float = 0.0

    def anisotropy_db(self, decibel: float) -> float:
        """Return how much darker fibres are that lose `decibel` at ANISOTROPY_ANGLE."""
        return decibel * min(1.0, (self.beam_angle / ANISOTROPY_ANGLE) ** 2)


@dataclass(frozen=True)
class Outline:
    """A lobed ellipse.

    lateral_mm, depth_mm: its centre at elevation 0. half_width_mm, half_height_mm: its semi-axes. tilt: radians.
    lobes: deviations from an ellipse, (order, relative amplitude, phase in radians). drift: lateral and depth shift of
    the centre, mm for each mm of elevation.
    """

    lateral_mm: float
    depth_mm: float
    half_width_mm: float
    half_height_mm: float
    tilt: float = 0.0
    lobes: tuple[tuple[int, float, float], ...] = ()
    drift: tuple[float, float] = (0.0, 0.0)

    @property
    def max_radius_mm(self) -> float:
        """An upper bound of the distance of the outline from its centre."""
        return max(self.half_width_mm, self.half_height_mm) * (1 + sum(abs(lobe[1]) for lobe in self.lobes))

    def is_apart(self, other: "Outline") -> bool:
        """Return whether there is at least MIN_GAP_MM between the outlines, at elevation 0."""
        distance = np.hypot(self.lateral_mm - other.lateral_mm, self.depth_mm - other.depth_mm)
        return bool(distance > self.max_radius_mm + other.max_radius_mm + MIN_GAP_MM)

    def cross_section(self, plane: Plane) -> "CrossSection | None":
        """Return the part of the plane around this outline; None if it is outside the frame."""
        lateral_mm = self.lateral_mm + self.drift[0] * plane.elevation_mm
        depth_mm = self.depth_mm + self.drift[1] * plane.elevation_mm
        window = self._window(plane, lateral_mm, depth_mm)
        if window is None:
            return None
        x, z = (plane.lateral_mm[window] - np.float32(lateral_mm), plane.depth_mm[window] - np.float32(depth_mm))
        along = x * np.cos(self.tilt) + z * np.sin(self.tilt)
        across = z * np.cos(self.tilt) - x * np.sin(self.tilt)
        u, v = along / self.half_width_mm, across / self.half_height_mm
        angle = np.arctan2(v, u)
        stretch = 1 + sum(size * np.cos(order * angle + phase) for order, size, phase in self.lobes)
        # The distance is measured along the ray from the centre. The small terms keep the centre itself inside.
        distance, radius = np.sqrt(x**2 + z**2), np.sqrt(u**2 + v**2) / stretch
        inside_mm = (distance + 1e-6 * self.half_height_mm) / (radius + 1e-6) - distance
        # The ellipse's normal. The outline reflects the beam back where its normal is parallel to the beam.
        normal_x, normal_z = u / self.half_width_mm, v / self.half_height_mm
        incidence = np.abs(normal_z) / np.sqrt(normal_x**2 + normal_z**2 + 1e-9)
        return CrossSection(window, u, v, inside_mm, incidence)

    def _window(self, plane: Plane, lateral_mm: float, depth_mm: float) -> tuple[slice, slice] | None:
        """Return the rows and columns of the plane near the centre; None if there are none."""
        reach_mm = self.max_radius_mm + MARGIN_MM
        coarse = (slice(None, None, SEARCH_PX), slice(None, None, SEARCH_PX))
        near = (np.abs(plane.lateral_mm[coarse] - lateral_mm) < reach_mm) & (
            np.abs(plane.depth_mm[coarse] - depth_mm) < reach_mm
        )
        rows, columns = (SEARCH_PX * np.flatnonzero(near.any(axis=axis)) for axis in (1, 0))
        if not rows.size:
            return None
        return slice(rows[0], rows[-1] + SEARCH_PX), slice(columns[0], columns[-1] + SEARCH_PX)


@dataclass(frozen=True)
class CrossSection:
    """The neighbourhood of an outline in the imaging plane: arrays of the window's shape.

    window: its rows and columns in the plane.
    u, v: coordinates in units of the semi-axes.
    inside_mm: distance from the outline, positive inside.
    incidence: cosine of the angle between the beam and the outline's normal, 0..1.
    """

    window: tuple[slice, slice]
    u: np.ndarray
    v: np.ndarray
    inside_mm: np.ndarray
    incidence: np.ndarray

    @property
    def inside(self) -> np.ndarray:
        """Whether a pixel is inside the outline: bool."""
        return self.inside_mm > 0

    def rim(self, thickness_mm: float) -> np.ndarray:
        """Return a line along the inner side of the outline: 1 on the line, falling to 0 within its thickness."""
        return np.exp(-0.5 * ((self.inside_mm - thickness_mm) / thickness_mm) ** 2)

    def replace_tissue(self, medium: Medium, backscatter_db: np.ndarray | float) -> None:
        """Replace the tissue inside the outline by tissue of this backscatter, without interfaces."""
        inside = self.inside
        replacement = backscatter_db[inside] if isinstance(backscatter_db, np.ndarray) else backscatter_db
        medium.backscatter_db[self.window][inside] = replacement
        medium.specular[self.window][inside] = 0

    def add_specular(self, medium: Medium, amplitude: np.ndarray) -> None:
        """Add specular reflection of this amplitude, an array of the window's shape."""
        medium.specular[self.window] += amplitude.astype(np.float32)


@dataclass(frozen=True)
class Nerve:
    """A group of dark fascicles in brighter stroma within a bright epineurium.

    fascicles: float (n, 3), centre (u, v) and radius in units of the semi-axes.
    """

    outline: Outline
    fascicles: np.ndarray
    stroma_db: float
    fascicle_db: float
    epineurium_db: float

    def paint(self, medium: Medium, plane: Plane) -> None:
        section = self.outline.cross_section(plane)
        if section is None:
            return
        backscatter_db = np.full(section.u.shape, self.stroma_db, np.float32)
        aspect = self.outline.half_height_mm / self.outline.half_width_mm
        for u, v, radius in self.fascicles:
            # Fascicles are round in millimetres, not in units of the semi-axes.
            distance = np.sqrt(((section.u - u) / np.sqrt(aspect)) ** 2 + (section.v - v) ** 2 * aspect) / radius
            backscatter_db += (self.fascicle_db - self.stroma_db) * np.clip((1.1 - distance) * 4, 0, 1)
        rim = section.rim(0.22)
        backscatter_db = np.maximum(backscatter_db, self.epineurium_db - 14 * (1 - rim))
        loss_db = plane.anisotropy_db(NERVE_ANISOTROPY_DB)
        section.replace_tissue(medium, (np.maximum(backscatter_db, self.fascicle_db) - loss_db).astype(np.float32))
        section.add_specular(medium, 10 ** ((self.epineurium_db + 5 - loss_db) / 20) * rim * section.incidence**3)
        medium.labels[section.window][section.inside] = NERVE


@dataclass(frozen=True)
class Vessel:
    """Blood within a thin wall: almost no echo, and so little attenuation that the tissue behind is enhanced."""

    outline: Outline
    blood_db: float
    wall_db: float

    def paint(self, medium: Medium, plane: Plane) -> None:
        section = self.outline.cross_section(plane)
        if section is None:
            return
        section.replace_tissue(medium, self.blood_db)
        medium.attenuation[section.window][section.inside] = 0.12
        wall = section.rim(0.12)
        section.add_specular(medium, 10 ** (self.wall_db / 20) * wall * (0.06 + section.incidence**4))
        medium.labels[section.window][section.inside] = VESSEL


@dataclass(frozen=True)
class Tendon:
    """A bright oval of fibrils: fine bright dots and dashes close together, without dark fascicles or a rim.

    fibrils: float32 (TENDON_TEXTURE_PX, TENDON_TEXTURE_PX), about standard normal, repeated over the cross-section.
    """

    outline: Outline
    fibrils: np.ndarray
    backscatter_db: float

    def paint(self, medium: Medium, plane: Plane) -> None:
        section = self.outline.cross_section(plane)
        if section is None:
            return
        column = ((section.u + 2) * (self.outline.half_width_mm / 0.16)).astype(int) % TENDON_TEXTURE_PX
        row = ((section.v + 2) * (self.outline.half_height_mm / 0.09)).astype(int) % TENDON_TEXTURE_PX
        backscatter_db = self.backscatter_db - plane.anisotropy_db(TENDON_ANISOTROPY_DB)
        section.replace_tissue(medium, (backscatter_db + 4.5 * self.fibrils[row, column]).astype(np.float32))


@dataclass(frozen=True)
class LymphNode:
    """A dark, smooth, oval cortex around one bright hilum, within a faint capsule."""

    outline: Outline
    cortex_db: float
    hilum_db: float

    def paint(self, medium: Medium, plane: Plane) -> None:
        section = self.outline.cross_section(plane)
        if section is None:
            return
        hilum = np.exp(-2.0 * ((section.u - 0.1) ** 2 / 0.3 + (section.v - 0.15) ** 2 / 0.1))
        backscatter_db = self.cortex_db + (self.hilum_db - self.cortex_db) * hilum
        section.replace_tissue(medium, backscatter_db.astype(np.float32))
        section.add_specular(medium, 10 ** (-20 / 20) * section.rim(0.12) * section.incidence**3)


@dataclass(frozen=True)
class Bone:
    """A bright convex surface with an acoustic shadow below it."""

    outline: Outline

    def paint(self, medium: Medium, plane: Plane) -> None:
        section = self.outline.cross_section(plane)
        if section is None:
            return
        section.replace_tissue(medium, -45.0)
        medium.attenuation[section.window][section.inside] = 12.0
        upper_half = section.v < 0
        surface = np.exp(-0.5 * ((section.inside_mm - 0.15) / 0.15) ** 2)
        section.add_specular(medium, surface * section.incidence**4 * upper_half)


@dataclass(frozen=True)
class FatPad:
    """The soft bright fat between muscles around a nerve. It is also where the nerve has left the imaging plane.

    added_db: rise of the backscatter.
    """

    outline: Outline
    added_db: float

    def paint(self, medium: Medium, plane: Plane) -> None:
        section = self.outline.cross_section(plane)
        if section is None:
            return
        soft_inside = 1 / (1 + np.exp(-section.inside_mm / 0.35))
        medium.backscatter_db[section.window] += (self.added_db * soft_inside).astype(np.float32)


Structure = FatPad | Nerve | Vessel | Tendon | LymphNode | Bone
