"""The U-net (Ronneberger, Fischer and Brox 2015, arXiv 1505.04597), built from a candidate's section `net`.

The comments give the shape of each tensor: N frames, H rows and W columns of the network input, C channels. Each new
layer takes the next seed of Keras, so the initial weights depend on the order in which the layers are created.
"""

import keras
from keras import KerasTensor, layers, ops

from training.models.efficientnet import efficientnet_lite0
from training.workspace.nerve_parameters import InputParameters, Net

# A standard encoder takes the frame (N, H, W, 1). It returns the skip connections, the highest resolution first, and
# the bottleneck. The names are those of `Net.encoder` in training/workspace/nerve_parameters.py.
ENCODERS = {"efficientnet_lite0": efficientnet_lite0}

PRESENCE_POOL_PX = 4  # about the side of a fascicle; a single bright pixel does not raise presence much
DROPOUT_RATE = 0.2


def build_unet(net: Net, parameters: InputParameters) -> keras.Model:
    """Return an untrained U-net that maps "frame" to a dictionary of its heads.

    Input: float32 (N, H, W, 1), normalised by `service.inference.preprocessing`. Heads, all float32 in 0..1:
      mask                (N, H, W, 1), the probability that a pixel is nerve
      presence            (N, 1), the probability that the frame shows a nerve
      vessel              (N, H, W, 1), the probability that a pixel is vessel (only if net.heads names it)
      deep_supervision_K  as mask, from the decoder level at 1/K of the input resolution (only with deep_supervision)

    Height and width of the input are multiples of 2 ** net.halvings; `Candidate` checks this.
    """
    frame = keras.Input((parameters.height, parameters.width, 1), name="frame")  # (N, H, W, 1)
    skips, bottleneck = _build_encoder(frame, net)  # bottleneck: (N, H / 2**halvings, W / 2**halvings, C)
    levels = _build_decoder(bottleneck, skips, net)
    last = levels[-1]  # (N, H / stem, W / stem, filters[0])

    heads = {"mask": _segmentation_head(last, net.stem, "mask")}
    if "presence" in net.heads:
        heads["presence"] = _classification_head(bottleneck)
    else:
        heads["presence"] = _presence_from_mask(heads["mask"])
    if "vessel" in net.heads:
        heads["vessel"] = _segmentation_head(last, net.stem, "vessel")
    if "deep_supervision" in net.heads:  # Lee et al. 2015 (arXiv 1409.5185)
        for level in levels[:-1]:
            stride = parameters.height // level.shape[1]
            heads[f"deep_supervision_{stride}"] = _segmentation_head(level, stride, f"deep_supervision_{stride}")
    return keras.Model(frame, heads, name="unet")


def _build_encoder(frame: KerasTensor, net: Net) -> tuple[list[KerasTensor], KerasTensor]:
    """Return the skip connections, the highest resolution first, and the bottleneck."""
    if net.encoder:
        return ENCODERS[net.encoder](frame)
    x = frame  # (N, H, W, 1)
    if net.stem > 1:
        # A strided first convolution saves computation where the resolution is highest.
        x = _conv_block(x, net.filters[0], net.batch_norm, 2 * net.stem, net.stem)  # (N, H / stem, W / stem, C)
    skips = []
    for filters in net.filters[:-1]:
        x = _double_conv(x, filters, net.batch_norm)  # (N, h, w, filters)
        skips.append(x)
        x = layers.MaxPooling2D()(x)  # (N, h / 2, w / 2, filters)
    return skips, _double_conv(x, net.filters[-1], net.batch_norm)


def _build_decoder(bottleneck: KerasTensor, skips: list[KerasTensor], net: Net) -> list[KerasTensor]:
    """Return the features of each decoder level, the lowest resolution first."""
    x = bottleneck  # (N, h, w, C)
    levels = []
    for filters, skip in zip(reversed(net.decoder_filters), reversed(skips), strict=True):
        x = layers.Conv2DTranspose(filters, 2, strides=2, padding="same")(x)  # (N, 2h, 2w, filters)
        x = layers.Concatenate()([x, skip])  # (N, 2h, 2w, filters + C of the skip connection)
        x = _double_conv(x, filters, net.batch_norm)  # (N, 2h, 2w, filters)
        levels.append(x)
    return levels


def _double_conv(x: KerasTensor, filters: int, batch_norm: bool) -> KerasTensor:
    return _conv_block(_conv_block(x, filters, batch_norm), filters, batch_norm)


def _conv_block(x: KerasTensor, filters: int, batch_norm: bool, kernel: int = 3, strides: int = 1) -> KerasTensor:
    """Return convolution, optional batch normalisation and ReLU of x: (N, h / strides, w / strides, filters)."""
    x = layers.Conv2D(filters, kernel, strides=strides, padding="same", use_bias=not batch_norm)(x)
    if batch_norm:
        # A training has few and short epochs. Moving statistics with this momentum follow within about ten batches.
        x = layers.BatchNormalization(momentum=0.9)(x)
    return layers.ReLU()(x)


def _segmentation_head(x: KerasTensor, stride: int, name: str) -> KerasTensor:
    """Return probabilities at the input resolution, float32 in every precision policy.

    x: (N, H / stride, W / stride, C). Each of its pixels predicts a block of stride x stride input pixels, one channel
    for each; depth_to_space arranges them. This equals a transposed convolution. It avoids layers with one channel at
    full resolution, which use a CPU's vector units badly and took half of a small network's time.
    """
    kernel = 1 if stride == 1 else 3
    logits = layers.Conv2D(stride**2, kernel, padding="same", dtype="float32", name=f"{name}_logits")(x)
    if stride == 1:
        return layers.Activation("sigmoid", dtype="float32", name=name)(logits)  # (N, H, W, 1)
    blocks = layers.Activation("sigmoid", dtype="float32")(logits)  # (N, H / stride, W / stride, stride**2)
    return layers.Identity(dtype="float32", name=name)(ops.depth_to_space(blocks, stride))  # (N, H, W, 1)


def _classification_head(bottleneck: KerasTensor) -> KerasTensor:
    """Return the probability of a nerve, predicted from the mean and the maximum of the bottleneck."""
    pooled = layers.Concatenate()(
        [layers.GlobalAveragePooling2D()(bottleneck), layers.GlobalMaxPooling2D()(bottleneck)]
    )  # (N, 2C)
    dense = layers.Dense(1, activation="sigmoid", dtype="float32", name="presence")  # created before the dropout layer
    return dense(layers.Dropout(DROPOUT_RATE)(pooled))  # (N, 1)


def _presence_from_mask(mask: KerasTensor) -> KerasTensor:
    """Return the highest mean probability of PRESENCE_POOL_PX x PRESENCE_POOL_PX pixels of the mask. No weights."""
    means = layers.AveragePooling2D(PRESENCE_POOL_PX, dtype="float32")(mask)  # (N, H / 4, W / 4, 1)
    return layers.Reshape((1,), name="presence")(layers.GlobalMaxPooling2D(dtype="float32")(means))  # (N, 1)
