"""Compare the nerves of the data set with the tissue around them: how hard is it to see them?

`python -m training.evaluation.nerve_contrast` prints quantiles over the labelled frames of data/frames, of any source.
"""

import cv2
import numpy as np
import pandas as pd
from rich.progress import track

from service.rendering.image_encoding import to_8_bits
from training.data.frame_mask_pair import NERVE, VESSEL
from training.data.manifest import ManifestRow, read_frame, read_labels, read_manifest
from training.evaluation.summary import to_markdown
from training.workspace import paths
from training.workspace.output_checksums import check_outputs

GREY_BINS = 32
RING_WIDTH = 0.8  # as a multiple of the radius of a disc of the largest nerve's area
MIN_NERVE_PX = 10  # a smaller component is a speck of the annotation
QUANTILES = (0.1, 0.5, 0.9)


def measure_contrast(grey: np.ndarray, nerve: np.ndarray) -> dict[str, float]:
    """Return how a nerve differs from the ring of tissue around it.

    contrast_to_noise: the difference of the mean grey values, over the root mean square of both standard deviations
        (Patterson and Foster 1983, "The improvement and quantitative assessment of B-mode images").
    overlap: of both histograms of grey values, 0..1; 1 if they are equal.
    area_share: the nerve's share of the frame. nerves: number of connected components with at least MIN_NERVE_PX.

    grey: uint8 (height, width). nerve: bool (height, width), neither empty nor the whole frame.
    """
    areas = cv2.connectedComponentsWithStats(nerve.astype(np.uint8))[2][1:, cv2.CC_STAT_AREA]
    side = 2 * round(RING_WIDTH * float(np.sqrt(areas.max() / np.pi))) + 5
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    ring = (cv2.dilate(nerve.astype(np.uint8), disc) > 0) & ~nerve
    inside, around = (grey[region].astype(np.float64) for region in (nerve, ring))
    histograms = [np.histogram(values, GREY_BINS, (0, 256))[0] / values.size for values in (inside, around)]
    deviation = np.sqrt((inside.var() + around.var()) / 2)
    return {
        "contrast_to_noise": float((inside.mean() - around.mean()) / max(deviation, 1e-6)),
        "overlap": float(np.minimum(*histograms).sum()),
        "area_share": float(nerve.mean()),
        "nerves": float((areas >= MIN_NERVE_PX).sum()),
    }


def measure_row(row: ManifestRow) -> dict[str, float]:
    """Return `measure_contrast` of a frame that shows a nerve, and whether a vessel is labelled, 0 or 1."""
    labels = read_labels(row)
    return {**measure_contrast(to_8_bits(read_frame(row)), labels == NERVE), "vessel": float((labels == VESSEL).any())}


def summarize_contrast(frames: pd.DataFrame) -> pd.DataFrame:
    """Return a table of texts with a row for each column of `frames`: quantiles and mean."""
    table = frames.quantile(list(QUANTILES)).T.assign(mean=frames.mean())
    return table.map("{:.3f}".format).rename_axis("of a frame").reset_index().rename(columns=str)


def main() -> None:
    check_outputs(paths.FRAMES)
    rows = [row for row in read_manifest(paths.FRAMES) if row.nerve_px]
    frames = pd.DataFrame([measure_row(row) for row in track(rows, "frames with a nerve")])
    print(f"{len(frames)} frames with a nerve; quantiles:\n\n{to_markdown(summarize_contrast(frames))}")


if __name__ == "__main__":
    main()
