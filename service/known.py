"""Known frames: a model folder carries a few with the masks they must get, and is served only if they get them.

The frames are simulated, whatever the network was trained on: nobody's pictures travel with a model.
"""

from pathlib import Path

import numpy as np

from service.errors import ModelFolderError
from service.frame import Frame
from service.segmenter import Segmenter

FRAMES, MASKS = "known_frames.npy", "known_masks.npy"  # uint8 (N, height, width); grey, and 0 or 255
MOST_PRESENCE = 0.01  # apart, of a probability: runtimes and processors differ in the last digits
MOST_PIXELS = 0.001  # changed, share of a frame's


def write_known(folder: Path, segmenter: Segmenter, frames: np.ndarray) -> tuple[float, ...]:
    """Put `frames`, uint8 (N, height, width), and the masks they get into `folder`; the presence in each."""
    found = [segmenter.segment(Frame(pixels)) for pixels in frames]
    np.save(folder / FRAMES, frames)
    np.save(folder / MASKS, np.stack([one.mask for one in found]))
    return tuple(round(one.presence, 6) for one in found)


def check_known(folder: Path, segmenter: Segmenter) -> None:
    """Raises ModelFolderError where the folder carries no known frames, or one of them gets another mask here."""
    card = segmenter.card
    if not {FRAMES, MASKS} <= card.files.keys():
        raise ModelFolderError(f"{folder} carries no known frames: package it anew.")
    try:
        frames, masks = (np.load(folder / name, allow_pickle=False) for name in (FRAMES, MASKS))
        expected = list(zip(frames, masks, card.known, strict=True))
    except (OSError, ValueError) as fault:
        raise ModelFolderError(f"the known frames in {folder} cannot be read ({fault}): package it anew.") from fault
    for index, (pixels, mask, presence) in enumerate(expected):
        found = segmenter.segment(Frame(pixels))
        changed, apart = np.mean(found.mask != mask), abs(found.presence - presence)
        if changed > MOST_PIXELS or apart > MOST_PRESENCE:
            told = f"{changed:.2%} of its mask's pixels changed, presence off by {apart:.3f}"
            raise ModelFolderError(f"{folder} fails its self-test on known frame {index} ({told}).")
