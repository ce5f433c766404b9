"""EfficientNet-Lite0 as the encoder of a U-net.

EfficientNet: Tan and Le 2019 (arXiv 1905.11946). The Lite variant has no squeeze-and-excitation and uses ReLU6, which
suits 8-bit integers. training/models/imagenet_weights.py loads its ImageNet weights: layer names here are
ENCODER_PREFIX and the name in the weights file.
"""

from typing import NamedTuple

from keras import KerasTensor, layers

ENCODER_PREFIX = "encoder."  # of all encoder layers
STEM_FILTERS = 32


class Stage(NamedTuple):
    """A row of table 1 of the paper.

    stride: of the first block; the others have stride 1.
    """

    blocks: int
    kernel: int
    stride: int
    expansion: int
    filters: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


def efficientnet_lite0(frame: KerasTensor) -> tuple[list[KerasTensor], KerasTensor]:
    """Return the skip connections, the highest resolution first, and the bottleneck.

    The skip connections are (N, H/2, W/2, 16), (N, H/4, W/4, 24), (N, H/8, W/8, 40) and (N, H/16, W/16, 112). The
    bottleneck is (N, H/32, W/32, 320).

    frame: (N, H, W, 1).
    """
    stem = layers.Conv2D(STEM_FILTERS, 3, strides=2, padding="same", use_bias=False, name=f"{ENCODER_PREFIX}_conv_stem")
    x = layers.ReLU(6.0)(_batch_norm("_bn0")(stem(frame)))  # (N, H/2, W/2, 32)
    skips, block = [], 0
    for stage in STAGES:
        for index in range(stage.blocks):
            stride = stage.stride if index == 0 else 1
            if stride == 2:
                skips.append(x)
            x = _inverted_bottleneck(x, stage, stride, f"_blocks.{block}.")  # (N, h / stride, w / stride, filters)
            block += 1
    return skips, x


def _inverted_bottleneck(x: KerasTensor, stage: Stage, stride: int, name: str) -> KerasTensor:
    """Expand, filter and project x. Add x if the shape is unchanged.

    Expansion and projection are 1x1 convolutions, the filter is a depthwise one: Sandler et al. 2018 (arXiv
    1801.04381).
    """
    expanded = x  # (N, h, w, C)
    if stage.expansion > 1:
        filters = x.shape[-1] * stage.expansion
        expanded = layers.Conv2D(filters, 1, use_bias=False, name=f"{ENCODER_PREFIX}{name}_expand_conv")(x)
        expanded = layers.ReLU(6.0)(_batch_norm(f"{name}_bn0")(expanded))  # (N, h, w, expansion * C)
    depthwise = layers.DepthwiseConv2D(
        stage.kernel,
        strides=stride,
        padding="same",
        use_bias=False,
        name=f"{ENCODER_PREFIX}{name}_depthwise_conv",
    )
    filtered = layers.ReLU(6.0)(_batch_norm(f"{name}_bn1")(depthwise(expanded)))  # (N, h/stride, w/stride, expansion*C)
    projected = layers.Conv2D(stage.filters, 1, use_bias=False, name=f"{ENCODER_PREFIX}{name}_project_conv")(filtered)
    projected = _batch_norm(f"{name}_bn2")(projected)  # (N, h/stride, w/stride, filters)
    return layers.Add()([x, projected]) if projected.shape == x.shape else projected


def _batch_norm(name: str) -> layers.Layer:
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-3, name=ENCODER_PREFIX + name)
