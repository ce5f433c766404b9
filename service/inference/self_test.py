"""Self-test: a model folder holds a few frames with the masks that they must get, and is served only if they match.

The frames are simulated, so a model carries no patient's picture. The expected masks depend on the precision: int8 on a
CPU and float16 on a GPU differ more than float32 on two processors.
"""

import dataclasses
from pathlib import Path

import numpy as np

from service.decoding.frame import Frame
from service.errors import ModelFolderError
from service.inference.segmenter import Segmenter
from service.model.card import REMEDY, Card, Precision

FRAMES_FILE = "self_test_frames.npy"  # uint8 (N, height, width), grey
MASKS_FILE = "self_test_masks.{}.npy"  # by precision: uint8 (N, height, width), 0 or 255
# Runtimes and processors differ in the last digits, so small differences are allowed.
MAX_PRESENCE_DIFFERENCE = 0.01
MAX_CHANGED_PIXEL_SHARE = 0.001


def write_self_test(folder: Path, frames: np.ndarray) -> None:
    """Write the self-test frames and their masks into `folder`, and their presence into its card.

    frames: uint8 (N, height, width). Masks are written for the card's precisions on CPUs and on GPUs, and for float32.
    """
    card = Card.read(folder)
    precisions: set[Precision] = {"float32", card.precision, card.gpu_precision}
    # Open all segmenters before a file changes: opening one checks the card's checksums.
    segmenters = {precision: Segmenter(folder, precision) for precision in sorted(precisions)}
    presence: dict[Precision, tuple[float, ...]] = {}
    np.save(folder / FRAMES_FILE, frames)
    for precision, segmenter in segmenters.items():
        results = [segmenter.segment(Frame(pixels)) for pixels in frames]
        np.save(folder / MASKS_FILE.format(precision), np.stack([result.mask for result in results]))
        presence[precision] = tuple(round(result.presence, 6) for result in results)
    dataclasses.replace(card, self_test_presence=presence).write(folder)


def run_self_test(folder: Path, segmenter: Segmenter) -> None:
    """Raise ModelFolderError if the folder holds no self-test frames, or if a frame gets another mask here."""
    card, precision = segmenter.card, segmenter.runtime.precision
    masks_file = MASKS_FILE.format(precision)
    if not {FRAMES_FILE, masks_file} <= card.files.keys():
        raise ModelFolderError(f"{folder} holds no self-test frames for {precision}: {REMEDY}.")
    try:
        frames, masks = (np.load(folder / name, allow_pickle=False) for name in (FRAMES_FILE, masks_file))
        expected = list(zip(frames, masks, card.self_test_presence[precision], strict=True))
    except (OSError, ValueError, KeyError) as error:
        raise ModelFolderError(f"the self-test frames in {folder} cannot be read ({error}): {REMEDY}.") from error
    for index, (pixels, mask, presence) in enumerate(expected):
        result = segmenter.segment(Frame(pixels))
        changed_share, difference = np.mean(result.mask != mask), abs(result.presence - presence)
        if changed_share > MAX_CHANGED_PIXEL_SHARE or difference > MAX_PRESENCE_DIFFERENCE:
            raise ModelFolderError(
                f"{folder} fails its self-test on frame {index}: {changed_share:.2%} of the mask's pixels differ, "
                f"presence differs by {difference:.3f}. Another version made the folder, or this machine computes "
                f"differently: {REMEDY}."
            )
