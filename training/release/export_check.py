"""Compare the exported network with its Keras original."""

import statistics
from functools import partial
from pathlib import Path

import numpy as np

from service.inference.postprocessing import postprocess
from service.inference.runtime_selection import open_cpu_runtime
from service.inference.segmenter import predict_probabilities
from service.inference.tta import with_tta
from service.model.card import NETWORK_FILE, Card, Precision
from service.model.postprocessing_config import PostprocessingConfig
from training.data.manifest import ManifestRow, read_frame
from training.data.split_table import rows_of_split
from training.evaluation.inference import Network, map_rows
from training.release.served_model_frames import sample_rows
from training.workspace.tensorflow_import import import_tensorflow

MAX_PROBABILITY_DIFFERENCE = 1e-3
MAX_CHANGED_PIXEL_SHARE = 1e-4  # of the mask's pixels


class ExportMismatchError(Exception):
    """The outputs of the exported network and of the Keras network differ. The message says how much."""


class KerasRuntime:
    """The Keras network of a candidate's folder, in float32, as a runtime."""

    device = "Keras"
    precision: Precision = "float32"

    def __init__(self, folder: Path):
        import_tensorflow()
        import keras

        self.model = keras.models.load_model(folder / "unet.keras", compile=False)

    def __call__(self, batch: np.ndarray, all_cores: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """Return mask probabilities and presence of a batch; Keras ignores `all_cores`."""
        output = self.model(batch, training=False)
        return np.asarray(output["mask"]), np.asarray(output["presence"]).reshape(-1)


def check_export(folder: Path, card: Card) -> dict[str, float]:
    """Compare the float32 network of `folder` with its Keras original, over frames of the test split.

    Ignores the precision of `card`. Returns and raises as `compare_networks`.
    """
    keras_network = partial(predict_probabilities, with_tta(KerasRuntime(folder), card.tta), card.input)
    exported_network = partial(
        predict_probabilities, with_tta(open_cpu_runtime(folder, "float32"), card.tta), card.input
    )
    return compare_networks(keras_network, exported_network, sample_rows(rows_of_split("test")), card.postprocessing)


def compare_networks(
    keras_network: Network, exported_network: Network, rows: list[ManifestRow], postprocessing: PostprocessingConfig
) -> dict[str, float]:
    """Return the largest difference of a probability, and the share of mask pixels that change.

    Raises ExportMismatchError above MAX_PROBABILITY_DIFFERENCE or MAX_CHANGED_PIXEL_SHARE.
    """

    def compare_frame(row: ManifestRow) -> tuple[float, float]:
        frame = read_frame(row)
        (mask, presence), (exported_mask, exported_presence) = keras_network(frame), exported_network(frame)
        difference = max(float(np.abs(mask - exported_mask).max()), abs(presence - exported_presence))
        exported_labels = postprocess(exported_mask, exported_presence, postprocessing)
        changed = postprocess(mask, presence, postprocessing) != exported_labels
        return difference, float(changed.mean())

    differences, shares = zip(*map_rows(compare_frame, rows, "float32 and Keras"), strict=True)
    difference, share = max(differences), statistics.fmean(shares)
    if difference > MAX_PROBABILITY_DIFFERENCE or share > MAX_CHANGED_PIXEL_SHARE:
        raise ExportMismatchError(
            f"{NETWORK_FILE} differs from unet.keras: probabilities by up to {difference:.2e} (limit "
            f"{MAX_PROBABILITY_DIFFERENCE}), and {share:.2e} of the mask's pixels (limit {MAX_CHANGED_PIXEL_SHARE}). "
            "The export is broken: train and export the network again."
        )
    return {"float32_largest_difference": round(difference, 7), "float32_changed_pixels": round(share, 8)}
