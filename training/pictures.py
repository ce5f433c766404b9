"""Pictures of frames and masks, for people: uint8 (height, width, 3) RGB."""

from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.patches import Patch
from skimage.segmentation import find_boundaries
from skimage.transform import resize

TRUTH = (64, 224, 208)  # turquoise
MASK = (255, 193, 7)  # amber: apart from turquoise also for colour-blind eyes


def grey(frame: np.ndarray) -> np.ndarray:
    """A frame of any range, (height, width), as RGB between its own 0.5th and 99.5th percentile."""
    low, high = np.percentile(frame.astype(np.float32), (0.5, 99.5))
    scaled = np.clip((frame - low) / max(high - low, 1e-6), 0, 1)
    return np.repeat((scaled * 255).astype(np.uint8)[..., np.newaxis], 3, axis=-1)


def outlined(frame: np.ndarray, truth: np.ndarray | None = None, mask: np.ndarray | None = None) -> np.ndarray:
    """A frame (height, width) with the outlines of truth and mask, bool (height, width), drawn on it."""
    picture = grey(frame)
    for shape, colour in ((truth, TRUTH), (mask, MASK)):
        if shape is not None:
            picture[find_boundaries(shape, mode="thick")] = colour
    return picture


def heat(probability: np.ndarray) -> np.ndarray:
    """A map of probabilities, float (height, width) in 0..1, as RGB."""
    return (colormaps["magma"](np.clip(probability, 0, 1))[..., :3] * 255).astype(np.uint8)


def grid(rows: list[list[np.ndarray]], height: int = 160, gap: int = 4) -> np.ndarray:
    """Pictures laid out in rows and columns, each scaled to `height` with its aspect kept."""
    lines = []
    for row in rows:
        scaled = [_scaled(picture, height) for picture in row]
        spacer = np.full((height, gap, 3), 255, np.uint8)
        lines.append(np.concatenate([part for picture in scaled for part in (picture, spacer)][:-1], axis=1))
    return stacked(lines, gap)


def stacked(pictures: list[np.ndarray], gap: int = 0) -> np.ndarray:
    """Pictures one below the other, white between them and beside the narrower ones."""
    widest = max(picture.shape[1] for picture in pictures)
    padded = [np.pad(one, ((0, gap), (0, widest - one.shape[1]), (0, 0)), constant_values=255) for one in pictures]
    return np.concatenate(padded)[: -gap or None]


def _scaled(picture: np.ndarray, height: int) -> np.ndarray:
    width = round(picture.shape[1] * height / picture.shape[0])
    return (resize(picture, (height, width), anti_aliasing=True) * 255).astype(np.uint8)


def sheet(path: Path, groups: dict[str, list[tuple[np.ndarray, np.ndarray, np.ndarray, str]]]) -> None:
    """A page with a row a group of (frame, truth, mask, caption), arrays (height, width), as a PNG."""
    from matplotlib.figure import Figure

    columns = max(len(panels) for panels in groups.values())
    figure = Figure(figsize=(3.1 * columns, 3.0 * len(groups)), layout="constrained")
    axes = figure.subplots(len(groups), columns, squeeze=False)
    for line, (title, panels) in zip(axes, groups.items(), strict=True):
        for axis in line:
            axis.set_axis_off()
        for axis, (frame, truth, mask, caption) in zip(line, panels, strict=False):
            axis.imshow(outlined(frame, truth, mask))
            axis.set_title(f"{title}: {caption}", fontsize=11)
    colours = {"truth": TRUTH, "mask": MASK}
    handles = [Patch(color=to_hex((r / 255, g / 255, b / 255)), label=name) for name, (r, g, b) in colours.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=11)
    # Without the date and version that matplotlib writes, the same masks give the same bytes.
    figure.savefig(path, dpi=110, metadata={"Software": None})
