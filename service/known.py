"""Known frames: a model folder carries a few with the masks they must get, and is served only if they get them.

The frames are simulated, whatever the network was trained on: nobody's pictures travel with a model. What they must get
depends on what is computed in: 8 bits on a CPU, say, and float32 on a GPU, whose answers lie further apart than those
of two processors.
"""

import dataclasses
from pathlib import Path

import numpy as np

from service.card import REMEDY, Card, Precision
from service.errors import ModelFolderError
from service.frame import Frame
from service.segmenter import Segmenter

FRAMES = "known_frames.npy"  # uint8 (N, height, width), grey
MASKS = "known_masks.{}.npy"  # by precision: uint8 (N, height, width), 0 or 255
MOST_PRESENCE = 0.01  # apart, of a probability: runtimes and processors differ in the last digits
MOST_PIXELS = 0.001  # changed, share of a frame's


def write_known(folder: Path, frames: np.ndarray) -> None:
    """Put `frames`, uint8 (N, height, width), and the masks they get into `folder`, and the presences into its card:
    those of the card's own precision, which CPUs compute in, and of float32, which GPUs do."""
    card = Card.read(folder)
    precisions: set[Precision] = {"float32", card.precision}
    opened = {precision: Segmenter(folder, precision) for precision in sorted(precisions)}  # before a file changes
    known: dict[Precision, tuple[float, ...]] = {}
    np.save(folder / FRAMES, frames)
    for precision, segmenter in opened.items():
        found = [segmenter.segment(Frame(pixels)) for pixels in frames]
        np.save(folder / MASKS.format(precision), np.stack([one.mask for one in found]))
        known[precision] = tuple(round(one.presence, 6) for one in found)
    dataclasses.replace(card, known=known).write(folder)


def check_known(folder: Path, segmenter: Segmenter) -> None:
    """Raises ModelFolderError where the folder carries no known frames, or one of them gets another mask here."""
    card, precision = segmenter.card, segmenter.runtime.precision
    written = MASKS.format(precision)
    if not {FRAMES, written} <= card.files.keys():
        raise ModelFolderError(f"{folder} carries no known frames for {precision}: {REMEDY}.")
    try:
        frames, masks = (np.load(folder / name, allow_pickle=False) for name in (FRAMES, written))
        expected = list(zip(frames, masks, card.known[precision], strict=True))
    except (OSError, ValueError, KeyError) as fault:
        raise ModelFolderError(f"the known frames in {folder} cannot be read ({fault}): {REMEDY}.") from fault
    for index, (pixels, mask, presence) in enumerate(expected):
        found = segmenter.segment(Frame(pixels))
        changed, apart = np.mean(found.mask != mask), abs(found.presence - presence)
        if changed > MOST_PIXELS or apart > MOST_PRESENCE:
            told = f"{changed:.2%} of its mask's pixels changed, presence off by {apart:.3f}"
            why = "another version made it, or this machine computes otherwise"
            raise ModelFolderError(f"{folder} fails its self-test on known frame {index} ({told}): {why}; {REMEDY}.")
