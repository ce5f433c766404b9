"""The U-nets (Ronneberger, Fischer, Brox 2015, arXiv 1505.04597), as params.yaml describes them."""

from typing import TYPE_CHECKING

from training.efficientnet import way_down
from training.parameters import InputSize, Net

if TYPE_CHECKING:
    import keras

# A nerve's blur of probability counts as one where this many pixels of it agree: about a fascicle.
AGREEING_PX = 4


def build(net: Net, size: InputSize) -> "keras.Model":
    """The U-net `net`, from "frame" to a dictionary of its heads.

    Takes float32 (N, height, width, 1), normalised as `service.tensor` does it. Answers
      mask      float32 (N, height, width, 1), probability that a pixel is nerve, 0..1
      presence  float32 (N, 1), probability that the frame holds a nerve, 0..1
      vessel    float32 (N, height, width, 1), probability that a pixel is vessel (only with that head)
      coarse_N  as mask, each drawn from the level that works at an N-th of the input's resolution (only with "coarse")
    `size` can be halved as often as the net halves it (`training.parameters.Candidate`).
    """
    import keras
    from keras import layers

    frame = keras.Input((size.height, size.width, 1), name="frame")
    skips, deepest = way_down(frame) if net.encoder else _way_down(frame, net)
    x = deepest  # (N, H / 2**net.halvings, ...)
    way_up = net.filters if net.encoder else net.filters[:-1]
    levels = []  # of the way up, the coarsest first
    for filters, skip in zip(reversed(way_up), reversed(skips), strict=True):
        x = layers.Conv2DTranspose(filters, 2, strides=2, padding="same")(x)
        x = layers.Concatenate()([x, _gated(skip, x) if net.gated else skip])
        x = _two_convolutions(x, filters, net.batch_norm)
        levels.append(x)

    heads = {"mask": _pixel_head(x, net.stem, "mask")}
    heads["presence"] = _presence_head(deepest) if "presence" in net.heads else _presence_of(heads["mask"])
    if "vessel" in net.heads:
        heads["vessel"] = _pixel_head(x, net.stem, "vessel")
    if "coarse" in net.heads:  # deep supervision: Lee et al. 2015 (arXiv 1409.5185)
        for level in levels[:-1]:
            share = size.height // level.shape[1]
            heads[f"coarse_{share}"] = _pixel_head(level, share, f"coarse_{share}")
    return keras.Model(frame, heads, name="unet")


def _way_down(frame, net: Net):
    """What each level hands across, the widest first, and the deepest level."""
    from keras import layers

    x = _stem(frame, net)  # (N, H/stem, W/stem, C)
    skips = []
    for filters in net.filters[:-1]:
        x = _two_convolutions(x, filters, net.batch_norm)
        skips.append(x)
        x = layers.MaxPooling2D()(x)
    return skips, _two_convolutions(x, net.filters[-1], net.batch_norm)


def _stem(frame, net: Net):
    """With a stride the net works at a half or a quarter of the input's resolution: it saves the most where it costs
    the most."""
    if net.stem == 1:
        return frame
    return _convolution(frame, net.filters[0], net.batch_norm, kernel=2 * net.stem, strides=net.stem)


def _two_convolutions(x, filters: int, batch_norm: bool):
    return _convolution(_convolution(x, filters, batch_norm), filters, batch_norm)


def _gated(skip, coarser):
    """What a level hands across, each place of it weighed by what lies there and by what the coarser level found.

    Oktay et al. 2018 (arXiv 1804.03999), equations 1 and 2, with the coarser level at the resolution of the skip.
    """
    from keras import layers

    filters = skip.shape[-1] // 2
    asked = layers.Add()([layers.Conv2D(filters, 1, use_bias=False)(skip), layers.Conv2D(filters, 1)(coarser)])
    return layers.Multiply()([skip, layers.Conv2D(1, 1, activation="sigmoid")(layers.ReLU()(asked))])


def _convolution(x, filters: int, batch_norm: bool, kernel: int = 3, strides: int = 1):
    from keras import layers

    x = layers.Conv2D(filters, kernel, strides=strides, padding="same", use_bias=not batch_norm)(x)
    if batch_norm:
        # Few, short epochs: running means that follow within ten batches or so.
        x = layers.BatchNormalization(momentum=0.9)(x)
    return layers.ReLU()(x)


def _pixel_head(x, stem: int, name: str):
    """Probabilities at the input's resolution, float32 whatever the precision before them.

    Behind a stem each place answers for all of its stem x stem pixels, a channel each, which are then laid out: what a
    transposed convolution does, without a layer that works on single channels at full resolution. That took half of a
    small net's time on a CPU, whose vectors hold 16 channels.
    """
    from keras import layers, ops

    side = 1 if stem == 1 else 3
    logits = layers.Conv2D(stem**2, side, padding="same", dtype="float32", name=f"{name}_logits")(x)
    if stem == 1:
        return layers.Activation("sigmoid", dtype="float32", name=name)(logits)
    probabilities = layers.Activation("sigmoid", dtype="float32")(logits)
    return layers.Identity(dtype="float32", name=name)(ops.depth_to_space(probabilities, stem))


def _presence_head(deepest):
    """Learnt from the deepest level's mean and peak activations."""
    from keras import layers

    seen = layers.Concatenate()([layers.GlobalAveragePooling2D()(deepest), layers.GlobalMaxPooling2D()(deepest)])
    return layers.Dense(1, activation="sigmoid", dtype="float32", name="presence")(layers.Dropout(0.2)(seen))


def _presence_of(mask):
    """Read off the mask, without weights: its highest mean over a few neighbouring pixels."""
    from keras import layers

    agreeing = layers.AveragePooling2D(AGREEING_PX, dtype="float32")(mask)
    return layers.Reshape((1,), name="presence")(layers.GlobalMaxPooling2D(dtype="float32")(agreeing))
