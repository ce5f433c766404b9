"""Quantize a network to 8 bits."""

import logging
from pathlib import Path

import numpy as np

from service.model.card import NETWORK_FILE, NETWORK_FILES
from training.data.prepared_arrays import read_arrays
from training.workspace import paths

INT8 = NETWORK_FILES["int8"]
MAX_CALIBRATION_FRAMES = 200
# The first convolutions stay in floating point: their activations have the widest range, and all later layers depend on
# them. On real frames this nearly halves the change of the probabilities; it costs 0.1 of the light network's 0.6 ms.
FLOATING_POINT_SHARE = 0.1  # of the convolutions


def quantize(folder: Path, candidate: str) -> None:
    """Write the network of `folder` as unet.int8.xml and .bin, with 8-bit weights and activations.

    The candidate's training frames give the ranges of the activations. The first convolutions stay in floating point.
    """
    import nncf
    import openvino

    nncf.set_log_level(logging.ERROR)
    frames = read_arrays(paths.PREPARED / candidate / "train").frames
    frames = frames[:: -(-len(frames) // MAX_CALIBRATION_FRAMES)]
    network = openvino.Core().read_model(folder / NETWORK_FILE)
    calibration = nncf.Dataset(frames, lambda frame: {"frame": np.asarray(frame)[np.newaxis, ..., np.newaxis]})
    convolutions = [op for op in network.get_ordered_ops() if op.get_type_name() in ("Convolution", "GroupConvolution")]
    floating_point = convolutions[: round(FLOATING_POINT_SHARE * len(convolutions))]
    quantized = nncf.quantize(
        network,
        calibration,
        preset=nncf.QuantizationPreset.MIXED,  # activations may have a smaller range below 0 than above
        subset_size=len(frames),
        ignored_scope=nncf.IgnoredScope(names=[op.get_friendly_name() for op in floating_point]),
    )
    openvino.save_model(quantized, folder / INT8)
