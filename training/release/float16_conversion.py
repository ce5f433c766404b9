"""Convert a network to float16, and compute it as a GPU would."""

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
    onnx.save(convert_float_to_float16(network, keep_io_types=True), folder / FLOAT16)


def write_rounding_network(folder: Path, file: Path) -> None:
    """Write the network of `folder` to `file`: each layer's output is rounded to float16 and back.

    On a CPU, ONNX Runtime computes a float16 network in float32 and rounds nothing between its layers. This network
    rounds, and overflows to infinity, where a GPU does.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    network = onnx.load(folder / NETWORK_FILE)
    graph = network.graph
    for weights in graph.initializer:
        if weights.data_type == TensorProto.FLOAT:
            rounded = numpy_helper.to_array(weights).astype("float16").astype("float32")
            weights.CopyFrom(numpy_helper.from_array(rounded, weights.name))
    inner_outputs = onnx.shape_inference.infer_shapes(network).graph.value_info
    floats = {info.name for info in inner_outputs if info.type.tensor_type.elem_type == TensorProto.FLOAT}
    nodes = []
    for node in graph.node:
        nodes.append(node)
        for position, name in enumerate(node.output):
            if name in floats:  # not the outputs of the network
                node.output[position] = f"{name}/exact"
                nodes.append(helper.make_node("Cast", [f"{name}/exact"], [f"{name}/float16"], to=TensorProto.FLOAT16))
                nodes.append(helper.make_node("Cast", [f"{name}/float16"], [name], to=TensorProto.FLOAT))
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(network, file)
