"""Export a trained U-net to ONNX."""

from pathlib import Path

import keras
import numpy as np
import onnx

INPUT_NAME = "frame"
OUTPUT_NAMES = ("mask", "presence")


def export_onnx(model: keras.Model, path: Path) -> None:
    """Write the network that the service runs: input "frame", outputs "mask" and "presence", any number of frames.

    The other heads serve the training only; the file leaves them out.
    """
    served = keras.Model(model.inputs, [model.get_layer(head).output for head in OUTPUT_NAMES])
    served([np.zeros((1, *model.input_shape[1:]), np.float32)])  # Keras exports a model only after its first call
    served.export(path, format="onnx", verbose=False)

    network = onnx.load(path)
    graph = network.graph
    new_names = dict(zip((output.name for output in graph.output), OUTPUT_NAMES, strict=True))
    new_names[graph.input[0].name] = INPUT_NAME
    for node in graph.node:
        node.input[:] = [new_names.get(name, name) for name in node.input]
        node.output[:] = [new_names.get(name, name) for name in node.output]
    for value in (*graph.input, *graph.output):
        value.name = new_names[value.name]
    onnx.checker.check_model(network)
    onnx.save(network, path)
