"""Images of frames and masks for readers: uint8 (height, width, 3), RGB."""

from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from skimage.segmentation import find_boundaries
from skimage.transform import resize

# Turquoise and amber: colour-blind readers can tell them apart.
TRUTH_COLOUR = (64, 224, 208)
MASK_COLOUR = (255, 193, 7)

Panel = tuple[np.ndarray, np.ndarray, np.ndarray, str]  # frame, truth, mask: (height, width) each; caption


def to_rgb(frame: np.ndarray) -> np.ndarray:
    """Return a frame (height, width) of any range as RGB, scaled between its 0.5th and 99.5th percentile."""
    low, high = np.percentile(frame.astype(np.float32), (0.5, 99.5))
    scaled = np.clip((frame - low) / max(high - low, 1e-6), 0, 1)
    return np.repeat((scaled * 255).astype(np.uint8)[..., np.newaxis], 3, axis=-1)


def draw_outlines(frame: np.ndarray, truth: np.ndarray | None = None, mask: np.ndarray | None = None) -> np.ndarray:
    """Return a frame (height, width) as RGB with the outlines of truth and mask, bool (height, width), on it."""
    image = to_rgb(frame)
    for region, colour in ((truth, TRUTH_COLOUR), (mask, MASK_COLOUR)):
        if region is not None:
            image[find_boundaries(region, mode="thick")] = colour
    return image


def to_heatmap(probability: np.ndarray) -> np.ndarray:
    """Return a map of probabilities, float (height, width) in 0..1, as RGB."""
    return (colormaps["magma"](np.clip(probability, 0, 1))[..., :3] * 255).astype(np.uint8)


def tile_images(rows: list[list[np.ndarray]], height_px: int = 160, gap_px: int = 4) -> np.ndarray:
    """Return one image of RGB images in rows and columns, each scaled to `height_px` with its aspect ratio kept."""
    lines = []
    for row in rows:
        gap = np.full((height_px, gap_px, 3), 255, np.uint8)
        parts = [part for image in row for part in (_scale(image, height_px), gap)]
        lines.append(np.concatenate(parts[:-1], axis=1))
    return stack_vertically(lines, gap_px)


def stack_vertically(images: list[np.ndarray], gap_px: int = 0) -> np.ndarray:
    """Return RGB images one below the other, with white gaps between them and white beside the narrower ones."""
    width = max(image.shape[1] for image in images)
    padded = [
        np.pad(image, ((0, gap_px), (0, width - image.shape[1]), (0, 0)), constant_values=255) for image in images
    ]
    return np.concatenate(padded)[: -gap_px or None]


def _scale(image: np.ndarray, height_px: int) -> np.ndarray:
    width_px = round(image.shape[1] * height_px / image.shape[0])
    return (resize(image, (height_px, width_px), anti_aliasing=True) * 255).astype(np.uint8)


def save_sheet(path: Path, groups: dict[str, list[Panel]]) -> None:
    """Write a PNG with a row of panels for each group: frames with the outlines of truth and mask."""
    columns = max(len(panels) for panels in groups.values())
    figure = Figure(figsize=(3.1 * columns, 3.0 * len(groups)), layout="constrained")
    axes = figure.subplots(len(groups), columns, squeeze=False)
    for row, (title, panels) in zip(axes, groups.items(), strict=True):
        for axis in row:
            axis.set_axis_off()
        for axis, (frame, truth, mask, caption) in zip(row, panels, strict=False):
            axis.imshow(draw_outlines(frame, truth, mask))
            axis.set_title(f"{title}: {caption}", fontsize=11)
    handles = [
        Patch(color=to_hex((red / 255, green / 255, blue / 255)), label=label)
        for label, (red, green, blue) in {"truth": TRUTH_COLOUR, "mask": MASK_COLOUR}.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=11)
    # Matplotlib would write its version into the PNG; without it the same masks give the same bytes.
    figure.savefig(path, dpi=110, metadata={"Software": None})
