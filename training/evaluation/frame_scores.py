"""Score masks, frame by frame."""

from typing import Any

import numpy as np
import pandas as pd

from service.inference.segmenter import build_segmentation
from service.model.postprocessing_config import PostprocessingConfig
from training.data.manifest import ManifestRow, read_frame, read_nerve_mask
from training.evaluation.baselines import MeanMask
from training.evaluation.conformal_outlines_fit import score_outlines
from training.evaluation.failure_modes import failure_mode
from training.evaluation.inference import Network, map_rows
from training.evaluation.segmentation_metrics import dice, hausdorff95, iou


def score(
    network: Network,
    config: PostprocessingConfig,
    mean_mask: MeanMask,
    rows: list[ManifestRow],
    title: str = "scoring",
) -> pd.DataFrame:
    """Return a table with a row per frame: metrics of the mask that the service would answer, and of the baselines.

    Columns
      presence, confidence         calibrated, 0..1; confidence is NaN for an empty mask
      dice_empty, dice_mean_mask   Dice of the baselines
      frame, subject               of the manifest
      iou, hausdorff95_px          of training.evaluation.segmentation_metrics
    and those of `score_mask` and `score_outlines`.
    """

    def score_row(row: ManifestRow) -> dict[str, Any]:
        probability, presence = network(read_frame(row))
        segmentation = build_segmentation(probability, presence, config)
        mask, truth = segmentation.mask > 0, read_nerve_mask(row)
        return {
            "frame": row.frame,
            "subject": row.subject,
            **score_mask(mask, truth),
            "presence": segmentation.presence,
            "confidence": np.nan if segmentation.confidence is None else segmentation.confidence,
            **score_outlines(probability, segmentation, truth, config),
            "iou": iou(mask, truth),
            "hausdorff95_px": hausdorff95(mask, truth),
            "dice_empty": float(not truth.any()),
            "dice_mean_mask": dice(mean_mask.predict(*truth.shape), truth),
        }

    return pd.DataFrame(map_rows(score_row, rows, title))


def score_mask(mask: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """Return Dice and failure mode of a mask, and the properties of its frame that define subgroups.

    nerve: whether the frame shows a nerve.
    nerve_share: the nerve's share of the frame's area.
    size: "WIDTHxHEIGHT" in pixels.

    mask, truth: bool (height, width).
    """
    height, width = truth.shape
    return {
        "nerve": bool(truth.any()),
        "nerve_share": truth.mean(),
        "size": f"{width}x{height}",
        "dice": dice(mask, truth),
        "failure": failure_mode(mask, truth),
    }
