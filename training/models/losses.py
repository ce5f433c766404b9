"""Loss functions, each with the name that `Recipe.loss` uses, and the Dice metric.

truth and probability are float32 (N, height, width, 1) in 0..1. Each loss returns a scalar.
"""

import functools

import keras
import tensorflow as tf
from keras import ops

SMOOTH = 1.0
EDGE_PX = 3  # distance from the nerve's outline, in pixels of the network input
EDGE_WEIGHT = 5.0
MAX_DISTANCE_PX = 16  # from the nerve's outline, in pixels of the network input; larger distances count as this
FALSE_NEGATIVE_WEIGHT = 0.7
FALSE_POSITIVE_WEIGHT = 0.3
FOCAL_EXPONENT = 0.75
LOSS_WEIGHTS = {"mask": 1.0, "presence": 0.2, "vessel": 0.5}  # of each head's loss
DEEP_SUPERVISION_LOSS_WEIGHT = 0.25  # of the loss of each coarser decoder level


def soft_dice(truth, probability):
    """Return minus the soft Dice of the batch, in -1..0.

    Drozdzal et al. 2016 (arXiv 1608.04117), equation 2, with smoothing. This is the lecture's loss.
    """
    return -_soft_dice_score(truth, probability)


def _soft_dice_score(truth, probability):
    """Return the soft Dice of the whole batch, in 0..1."""
    overlap = _batch_sum(truth * probability)
    return (2.0 * overlap + SMOOTH) / (_batch_sum(truth) + _batch_sum(probability) + SMOOTH)


def _batch_sum(values):
    """Return the sum over the whole batch, of which each device of a `tf.distribute` strategy has a part."""
    total = ops.sum(values)
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return total
    return replica.all_reduce(tf.distribute.ReduceOp.SUM, total)


def cross_entropy_dice(truth, probability):
    """Return the mean cross-entropy of the pixels plus one minus the soft Dice of the batch.

    The sum of both: Isensee et al. 2018 (nnU-Net, arXiv 1809.10486). The Dice of a frame without a nerve has no
    gradient, and half of the frames have none; so this is the Dice of the batch.
    """
    entropy = ops.mean(keras.losses.binary_crossentropy(truth, probability))
    return entropy + 1.0 - _soft_dice_score(truth, probability)


def focal_tversky(truth, probability):
    """Return one minus the Tversky index of the batch, to the power of FOCAL_EXPONENT, in 0..1.

    Abraham and Khan 2019 (arXiv 1810.07842), equations 3 and 4.
    """
    overlap = _batch_sum(truth * probability)
    false_negative = _batch_sum(truth * (1 - probability))
    false_positive = _batch_sum((1 - truth) * probability)
    weighted_union = overlap + FALSE_NEGATIVE_WEIGHT * false_negative + FALSE_POSITIVE_WEIGHT * false_positive
    index = (overlap + SMOOTH) / (weighted_union + SMOOTH)
    return ops.maximum(1 - index, keras.config.epsilon()) ** FOCAL_EXPONENT  # at 0 the gradient is infinite


def edge_weighted(truth, probability):
    """Return `cross_entropy_dice` with EDGE_WEIGHT times the entropy of pixels within EDGE_PX of an outline.

    After Ronneberger, Fischer and Brox 2015 (arXiv 1505.04597), equation 2, with a step in place of the Gaussian.
    """
    window = 2 * EDGE_PX + 1
    near_nerve = ops.max_pool(truth, window, strides=1, padding="same")
    near_background = ops.max_pool(1.0 - truth, window, strides=1, padding="same")
    weight = 1.0 + (EDGE_WEIGHT - 1.0) * near_nerve * near_background  # (N, height, width, 1)
    entropy = keras.losses.binary_crossentropy(truth, probability) * weight[..., 0]  # (N, height, width)
    return ops.mean(entropy) + 1.0 - _soft_dice_score(truth, probability)


def boundary(truth, probability):
    """Return `cross_entropy_dice` plus the mean of probability times signed distance from the outline.

    The boundary loss L_B of Kervadec et al. 2019 (arXiv 1812.07032), with the same weight in all epochs.
    """
    return cross_entropy_dice(truth, probability) + ops.mean(signed_distance(truth) * probability)


def signed_distance(truth):
    """Return each pixel's chessboard distance from the nerve's outline over MAX_DISTANCE_PX: negative inside, in -1..1.

    In a frame without a nerve all pixels have 1. Each 3x3 maximum grows a region by one pixel.
    """
    nerve, background = truth, 1.0 - truth
    distance = ops.zeros_like(truth)
    for _ in range(MAX_DISTANCE_PX):
        distance += background - nerve  # 1 where only background has grown to, -1 only nerve, 0 both
        nerve = ops.max_pool(nerve, 3, strides=1, padding="same")
        background = ops.max_pool(background, 3, strides=1, padding="same")
    return distance / MAX_DISTANCE_PX


def share_between_devices(loss):
    """Return the loss function divided by the number of devices, because their gradients are added up.

    Keras divides losses of single frames itself, but not a loss of the batch, which is a scalar.
    """

    @functools.wraps(loss)
    def share(truth, probability):
        return loss(truth, probability) / tf.distribute.get_strategy().num_replicas_in_sync

    return share


def loss_weight(head: str) -> float:
    """Return the weight of a head's loss in the sum of all losses."""
    return LOSS_WEIGHTS.get(head, DEEP_SUPERVISION_LOSS_WEIGHT)


def dice(truth, probability):
    """Return the Dice of each frame's mask at threshold 0.5, float32 (N,); 1 where both masks are empty."""
    mask = ops.cast(probability >= 0.5, "float32")
    overlap = ops.sum(truth * mask, axis=(1, 2, 3))  # (N,)
    pixels = ops.sum(truth, axis=(1, 2, 3)) + ops.sum(mask, axis=(1, 2, 3))  # (N,)
    return ops.where(pixels > 0, 2.0 * overlap / ops.maximum(pixels, 1.0), 1.0)
