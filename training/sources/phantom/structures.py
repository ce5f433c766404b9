"""What lies in the tissue: nerve, vessels, bone, and what is easily taken for a nerve: tendon and lymph node.

Each structure is a tube that crosses the probe's plane; it paints its cross-section into a medium. Its
appearance follows what sonographic anatomy describes: a nerve's bright epineurium and dark fascicles (the
honeycomb; Silvestri et al. 1995, "Echotexture of peripheral nerves: correlation between US and histologic
findings and criteria to differentiate tendons"), a tendon's fibrils, a node's dark cortex around a bright
hilum.
"""

from dataclasses import dataclass

import numpy as np

from training.sources.layout import NERVE, VESSEL
from training.sources.phantom.acoustics import Medium

SEARCH_PX = 4  # a structure's window is looked for on every fourth pixel: its margin of 1 mm is wider than that


@dataclass(frozen=True)
class Plane:
    """Where each pixel of a frame lies in the subject: x_mm lateral, z_mm depth, float32 (rows, columns);
    slice_mm: the plane's place along the limb."""

    x_mm: np.ndarray
    z_mm: np.ndarray
    slice_mm: float


@dataclass(frozen=True)
class Outline:
    """A lobed ellipse around (x_mm, z_mm), which wanders by `drift` (x, z) mm a mm along the limb."""

    x_mm: float
    z_mm: float
    half_width_mm: float
    half_height_mm: float
    tilt: float = 0.0  # radians
    lobes: tuple[tuple[int, float, float], ...] = ()  # order, amplitude, phase
    drift: tuple[float, float] = (0.0, 0.0)

    @property
    def reach_mm(self) -> float:
        """No point of the outline is farther from its centre than this."""
        return max(self.half_width_mm, self.half_height_mm) * (1 + sum(abs(lobe[1]) for lobe in self.lobes))

    def section(self, plane: Plane) -> "Section | None":
        """The part of `plane` around this outline, in its own coordinates; None where out of the frame."""
        x_mm, z_mm = (self.x_mm + self.drift[0] * plane.slice_mm, self.z_mm + self.drift[1] * plane.slice_mm)
        reach = self.reach_mm + 1.0
        every = (slice(None, None, SEARCH_PX), slice(None, None, SEARCH_PX))
        near = (np.abs(plane.x_mm[every] - x_mm) < reach) & (np.abs(plane.z_mm[every] - z_mm) < reach)
        rows, columns = (SEARCH_PX * np.flatnonzero(near.any(axis=axis)) for axis in (1, 0))
        if not rows.size:
            return None
        window = (slice(rows[0], rows[-1] + SEARCH_PX), slice(columns[0], columns[-1] + SEARCH_PX))
        x, z = (plane.x_mm[window] - np.float32(x_mm), plane.z_mm[window] - np.float32(z_mm))
        along = x * np.cos(self.tilt) + z * np.sin(self.tilt)
        across = z * np.cos(self.tilt) - x * np.sin(self.tilt)
        u, v = along / self.half_width_mm, across / self.half_height_mm
        angle = np.arctan2(v, u)
        stretch = 1 + sum(size * np.cos(order * angle + phase) for order, size, phase in self.lobes)
        # Along the ray from the centre; the small terms keep the centre itself inside.
        distance, radius = np.sqrt(x**2 + z**2), np.sqrt(u**2 + v**2) / stretch
        inward = (distance + 1e-6 * self.half_height_mm) / (radius + 1e-6) - distance
        # The ellipse's normal: a beam from above is reflected back where it points up or down.
        normal_x, normal_z = u / self.half_width_mm, v / self.half_height_mm
        facing = np.abs(normal_z) / np.sqrt(normal_x**2 + normal_z**2 + 1e-9)
        return Section(window, u, v, inward, facing)


@dataclass(frozen=True)
class Section:
    """An outline's neighbourhood, float32 arrays of the window's shape.

    u, v: place in units of the half axes; inward_mm: distance from the outline, positive inside;
    facing: 0 where the outline runs along the beam, 1 where it lies across it.
    """

    window: tuple[slice, slice]
    u: np.ndarray
    v: np.ndarray
    inward_mm: np.ndarray
    facing: np.ndarray

    @property
    def inside(self) -> np.ndarray:
        return self.inward_mm > 0

    def rim(self, thickness_mm: float) -> np.ndarray:
        """1 on a line just inside the outline, falling to 0 over its thickness: float32, 0..1."""
        return np.exp(-0.5 * ((self.inward_mm - thickness_mm) / thickness_mm) ** 2)

    def draw(self, medium: Medium, where: np.ndarray, decibel: np.ndarray | float) -> None:
        """Replace what lay at `where` by tissue of this backscatter, without interfaces."""
        medium.backscatter[self.window][where] = decibel[where] if isinstance(decibel, np.ndarray) else decibel
        medium.specular[self.window][where] = 0


@dataclass(frozen=True)
class Nerve:
    """A bright-rimmed group of dark fascicles; fascicles (n, 3): centre (u, v) and radius in half axes."""

    outline: Outline
    fascicles: np.ndarray
    stroma_db: float
    fascicle_db: float
    rim_db: float

    def paint(self, medium: Medium, plane: Plane) -> None:
        section = self.outline.section(plane)
        if section is None:
            return
        inside = section.inside
        tissue = np.full(section.u.shape, self.stroma_db, np.float32)
        aspect = self.outline.half_height_mm / self.outline.half_width_mm
        for u, v, radius in self.fascicles:
            # Round in millimetres, though the outline is not.
            apart = np.sqrt(((section.u - u) / np.sqrt(aspect)) ** 2 + (section.v - v) ** 2 * aspect) / radius
            depth = np.clip((1.1 - apart) * 4, 0, 1)
            tissue += (self.fascicle_db - self.stroma_db) * depth
        rim = section.rim(0.22)
        tissue = np.maximum(tissue, self.rim_db - 14 * (1 - rim))
        section.draw(medium, inside, np.maximum(tissue, self.fascicle_db).astype(np.float32))
        mirror = 10 ** ((self.rim_db + 5) / 20) * rim * section.facing**3
        medium.specular[section.window] += mirror.astype(np.float32)
        medium.labels[section.window][inside] = NERVE


@dataclass(frozen=True)
class Vessel:
    """Blood within a thin wall: next to no echo, and so little loss that the tissue behind it is enhanced."""

    outline: Outline
    blood_db: float
    wall_db: float

    def paint(self, medium: Medium, plane: Plane) -> None:
        section = self.outline.section(plane)
        if section is None:
            return
        inside = section.inside
        section.draw(medium, inside, self.blood_db)
        medium.loss[section.window][inside] = 0.12
        wall = section.rim(0.12)
        mirror = 10 ** (self.wall_db / 20) * wall * (0.06 + section.facing**4)
        medium.specular[section.window] += mirror.astype(np.float32)
        medium.labels[section.window][inside] = VESSEL


@dataclass(frozen=True)
class Tendon:
    """A bright oval of fibrils: fine bright dots and dashes close together, no dark fascicles, no rim."""

    outline: Outline
    fibrils: np.ndarray  # float32 (64, 64), about standard normal, repeated over the section
    tissue_db: float

    def paint(self, medium: Medium, plane: Plane) -> None:
        section = self.outline.section(plane)
        if section is None:
            return
        column = ((section.u + 2) * (self.outline.half_width_mm / 0.16)).astype(int) % 64
        row = ((section.v + 2) * (self.outline.half_height_mm / 0.09)).astype(int) % 64
        section.draw(medium, section.inside, (self.tissue_db + 4.5 * self.fibrils[row, column]).astype(np.float32))


@dataclass(frozen=True)
class LymphNode:
    """A dark, smooth oval cortex around one bright hilum, within a faint capsule."""

    outline: Outline
    cortex_db: float
    hilum_db: float

    def paint(self, medium: Medium, plane: Plane) -> None:
        section = self.outline.section(plane)
        if section is None:
            return
        hilum = np.exp(-2.0 * ((section.u - 0.1) ** 2 / 0.3 + (section.v - 0.15) ** 2 / 0.1))
        section.draw(
            medium,
            section.inside,
            (self.cortex_db + (self.hilum_db - self.cortex_db) * hilum).astype(np.float32),
        )
        capsule = 10 ** (-20 / 20) * section.rim(0.12) * section.facing**3
        medium.specular[section.window] += capsule.astype(np.float32)


@dataclass(frozen=True)
class Bone:
    """A bright convex surface that lets nothing through: all below lies in its shadow."""

    outline: Outline

    def paint(self, medium: Medium, plane: Plane) -> None:
        section = self.outline.section(plane)
        if section is None:
            return
        section.draw(medium, section.inside, -45.0)
        medium.loss[section.window][section.inside] = 12.0
        upper = section.v < 0
        surface = np.exp(-0.5 * ((section.inward_mm - 0.15) / 0.15) ** 2) * section.facing**4 * upper
        medium.specular[section.window] += surface.astype(np.float32)


@dataclass(frozen=True)
class FatPad:
    """The soft bright bed between muscles in which a nerve runs, there also where the nerve has left it."""

    outline: Outline
    rise_db: float

    def paint(self, medium: Medium, plane: Plane) -> None:
        section = self.outline.section(plane)
        if section is None:
            return
        soft = 1 / (1 + np.exp(-section.inward_mm / 0.35))
        medium.backscatter[section.window] += (self.rise_db * soft).astype(np.float32)


Structure = FatPad | Nerve | Vessel | Tendon | LymphNode | Bone
