"""What training minimises, each by the name that a recipe's `loss` has for it, and the Dice it watches.

All arrays are float32 (N, height, width, 1) in 0..1.
"""

import keras
from keras import ops

SMOOTH = 1.0
FRAME_SMOOTH = 20.0  # pixels, of a frame's own Dice: the rim of a nerve does not weigh like a whole one
EDGE_PX = 3  # from a nerve's outline, of the network's input
EDGE_WEIGHT = 5.0
FAR_PX = 16  # from a nerve's outline: pixels farther away weigh no more


def soft_dice(truth, probability):
    """Minus the Dice of a whole batch taken as one picture, with smooth 1: the lecture's loss, in -1..0."""
    overlap = ops.sum(truth * probability)
    return -(2.0 * overlap + SMOOTH) / (ops.sum(truth) + ops.sum(probability) + SMOOTH)


def cross_entropy_dice(truth, probability):
    """Cross-entropy over pixels plus one minus the batch's soft Dice.

    The Dice of a batch, not of a frame: half of the frames hold no nerve, and their Dice has no slope.
    """
    entropy = ops.mean(keras.losses.binary_crossentropy(truth, probability))
    return entropy + 1.0 + soft_dice(truth, probability)


def cross_entropy_frame_dice(truth, probability):
    """Cross-entropy over pixels plus one minus the mean of the frames' own soft Dice, each with FRAME_SMOOTH.

    It is frames that masks are judged by: in a batch's Dice a large nerve counts for several small ones.
    """
    overlap, drawn, said = (ops.sum(of, axis=(1, 2, 3)) for of in (truth * probability, truth, probability))
    of_frames = (2.0 * overlap + FRAME_SMOOTH) / (drawn + said + FRAME_SMOOTH)
    return ops.mean(keras.losses.binary_crossentropy(truth, probability)) + 1.0 - ops.mean(of_frames)


def focal_tversky(truth, probability):
    """One minus the batch's Tversky index, to the power of 3/4, in 0..1; missed pixels weigh 0.7, invented ones 0.3.

    Abraham and Khan 2019 (arXiv 1810.07842), equations 3 and 4.
    """
    overlap = ops.sum(truth * probability)
    missed, invented = ops.sum(truth * (1 - probability)), ops.sum((1 - truth) * probability)
    index = (overlap + SMOOTH) / (overlap + 0.7 * missed + 0.3 * invented + SMOOTH)
    return ops.maximum(1 - index, keras.config.epsilon()) ** 0.75  # at 0 its slope would have no end


def outlines(truth, probability):
    """`cross_entropy_dice` in whose entropy pixels within EDGE_PX of an outline weigh EDGE_WEIGHT times as much.

    After Ronneberger, Fischer and Brox 2015 (arXiv 1505.04597), equation 2, with a step for their Gaussian.
    """
    window = 2 * EDGE_PX + 1
    near, near_none = (ops.max_pool(of, window, strides=1, padding="same") for of in (truth, 1.0 - truth))
    weight = 1.0 + (EDGE_WEIGHT - 1.0) * near * near_none
    entropy = keras.losses.binary_crossentropy(truth, probability) * weight[..., 0]
    return ops.mean(entropy) + 1.0 + soft_dice(truth, probability)


def boundary(truth, probability):
    """`cross_entropy_dice` plus the mean probability, each pixel's times its `signed_distance` from the outline.

    The boundary loss L_B of Kervadec et al. 2019 (arXiv 1812.07032), which weighs the same throughout the training.
    """
    return cross_entropy_dice(truth, probability) + ops.mean(signed_distance(truth) * probability)


def signed_distance(truth):
    """How far pixels lie from the nerve's outline, in -1..1: negative inside; FAR_PX away, or without a nerve, 1.

    Rows or columns, whichever are more (a chessboard's distance): as many 3x3 maxima as it takes to be reached.
    """
    nerve, none = truth, 1.0 - truth
    distance = ops.zeros_like(truth)
    for _ in range(FAR_PX):
        distance += none - nerve  # 1 where only none has come, -1 where only the nerve has, 0 where both
        nerve, none = (ops.max_pool(of, 3, strides=1, padding="same") for of in (nerve, none))
    return distance / FAR_PX


def dice(truth, probability):
    """Dice of each frame's mask at 0.5, 1 where both are empty: float32 (N,). Keras averages it over frames."""
    mask = ops.cast(probability >= 0.5, "float32")
    overlap = ops.sum(truth * mask, axis=(1, 2, 3))
    pixels = ops.sum(truth, axis=(1, 2, 3)) + ops.sum(mask, axis=(1, 2, 3))
    return ops.where(pixels > 0, 2.0 * overlap / ops.maximum(pixels, 1.0), 1.0)
