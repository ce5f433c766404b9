"""Convert a network to float16."""

import warnings
from pathlib import Path

from service.model.card import NETWORK_FILE, NETWORK_FILES

FLOAT16 = NETWORK_FILES["float16"]


def convert_to_float16(folder: Path) -> None:
    """Write the network of `folder` as unet.float16.onnx. Its inputs and outputs stay float32.

    Weights beyond the range of float16 become its largest number; the check of the masks then decides.
    """
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    network = onnx.load(folder / NETWORK_FILE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # weights below the smallest number of float16 are rounded up to it
        onnx.save(convert_float_to_float16(network, keep_io_types=True), folder / FLOAT16)
