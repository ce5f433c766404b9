"""Run the network with ONNX Runtime: on an NVIDIA GPU, or on a CPU to measure float16 and to test without a GPU."""

from pathlib import Path
from typing import Any

import numpy as np

from service.model.card import Precision
from service.resources.gpu_detection import gpu_name

Provider = str | tuple[str, dict[str, Any]]  # an execution provider of ONNX Runtime, with its options
CPU = "CPUExecutionProvider"


class OnnxRuntime:
    """A runtime of ONNX Runtime. A session is thread-safe.

    network: an ONNX file. precision: its number format. providers: from the preferred one.
    frame_shape: of the network's input for one frame, (height, width, 1).
    """

    def __init__(self, network: Path, precision: Precision, providers: list[Provider]):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        if _name(providers[0]) != CPU:  # on the CPU, idle threads of each worker would spin
            options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(network), options, providers=providers)
        self.session.disable_fallback()  # it would go on with the CPU, and print why to standard output
        self.frame_shape = tuple(self.session.get_inputs()[0].shape[1:])
        self.precision = precision
        self.provider = self.session.get_providers()[0]
        processor = "CPU" if self.provider == CPU else gpu_name()
        library = f"onnxruntime {onnxruntime.__version__}, {self.provider.removesuffix('ExecutionProvider')}"
        self.device = f"{processor} ({library}, {precision})"

    def __call__(self, batch: np.ndarray, all_cores: bool = True) -> tuple[np.ndarray, np.ndarray]:
        mask, presence = self.session.run(["mask", "presence"], {"frame": batch})
        return mask, presence.reshape(-1)


def _name(provider: Provider) -> str:
    return provider if isinstance(provider, str) else provider[0]
