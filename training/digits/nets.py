"""A net from its entry in params.yaml, and its training."""

import math
from collections.abc import Iterable
from typing import Any

import cv2
import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from training.parameters import DigitNet, Move, Named, ParameterError
from training.recipe import learning_rate, settle
from training.sources.mnist import Digits

STEPS_AT_ONCE = 25  # batches between two looks from Python: a small net's batch takes less time than the look
TEST_BATCH = 500
SETTLED = 4000  # digits


def build(layers: Iterable[Named]) -> keras.Sequential:
    """The net of these layers: float32 (N, 28, 28, 1) in 0..1 -> probabilities float32 (N, 10).

    Raises ParameterError for a layer that Keras does not know or cannot make.
    """
    return keras.Sequential([keras.Input((28, 28, 1)), *(named(keras.layers, entry) for entry in layers)])


def named(module: Any, entry: Named, **arguments: Any) -> Any:
    """What a module of Keras has under a name, made with the entry's arguments. Raises ParameterError."""
    name, given = next(iter(entry.items())) if isinstance(entry, dict) else (entry, {})
    try:
        return getattr(module, name)(**given, **arguments)
    except (AttributeError, TypeError, ValueError) as fault:
        raise ParameterError(f"params.yaml: {module.__name__} cannot make {name} with {given}: {fault}") from fault


def train(
    net: DigitNet, training: Digits, test: Digits, seed: int, callbacks: Iterable[keras.callbacks.Callback] = ()
) -> tuple[keras.Model, pd.DataFrame]:
    """Train a net; gives it back with its history, by epoch: loss, accuracy, test_loss, test_accuracy.

    The test digits are looked at after every epoch, as the lecture does; nothing is chosen by them.
    """
    keras.utils.set_random_seed(seed)
    model = build(net.layers)
    averaging = {"use_ema": True, "ema_momentum": net.average} if net.average else {}
    model.compile(
        optimizer=named(keras.optimizers, net.optimizer, **averaging),
        loss=named(keras.losses, net.loss),
        metrics=["accuracy"],
        steps_per_execution=STEPS_AT_ONCE,
        jit_compile=False,  # slower on CPUs
    )
    schedule = [keras.callbacks.LearningRateScheduler(lambda epoch, _: learning_rate(net.phases, epoch))]
    if net.average:
        schedule.append(keras.callbacks.SwapEMAWeights(swap_on_epoch=True))
    fitted = model.fit(
        batches(net, training, seed),
        validation_data=test.tensors(),
        validation_batch_size=TEST_BATCH,
        epochs=net.epochs,
        callbacks=[*schedule, *callbacks],
        shuffle=False,  # the batches are
        verbose=0,
    )
    if net.augment:
        images, _ = training.first(SETTLED).tensors()
        settle(model, tf.data.Dataset.from_tensor_slices(images).batch(TEST_BATCH, drop_remainder=True))
    return model, pd.DataFrame(fitted.history).rename(columns=lambda name: name.replace("val_", "test_"))


def history(net: DigitNet, training: Digits, test: Digits, seed: int, callbacks=()) -> pd.DataFrame:
    """Of a training, its history alone: loss, accuracy, test_loss and test_accuracy by epoch."""
    return train(net, training, test, seed, callbacks)[1]


def batches(net: DigitNet, training: Digits, seed: int) -> tf.data.Dataset:
    """An epoch of the training digits, shuffled anew each time, and moved where the net says so."""
    images, targets = training.tensors()
    drawn = tf.data.Dataset.from_tensor_slices((images, targets)).shuffle(len(images), seed=seed).batch(net.batch)
    if by := net.augment:
        random = np.random.default_rng(seed)
        shape = images.shape[1:]

        def move(images: tf.Tensor, targets: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            there = tf.numpy_function(lambda batch: moved(batch, by, random), [images], tf.float32)
            return tf.ensure_shape(there, (None, *shape)), targets

        drawn = drawn.map(move)
    return drawn.prefetch(4)


def moved(images: np.ndarray, by: Move, random: np.random.Generator) -> np.ndarray:
    """Digits, each turned, slanted, scaled and shifted at random: float32 (N, 28, 28, 1) both ways."""
    count, side = images.shape[:2]

    def draw(most: float) -> np.ndarray:
        return random.uniform(-most, most, (count, 1, 1)).astype(np.float32)

    down, across = np.mgrid[:side, :side].astype(np.float32) - (side - 1) / 2
    angle = draw(math.radians(by.rotate))
    sin, cos = np.sin(angle), np.cos(angle)
    slanted = across + draw(by.shear) * down
    # Where in the old picture each grey of the new one comes from.
    x = np.exp(draw(by.zoom)) * (cos * slanted - sin * down) + draw(by.shift) * side + (side - 1) / 2
    y = np.exp(draw(by.zoom)) * (sin * slanted + cos * down) + draw(by.shift) * side + (side - 1) / 2
    # Linear would blur every training digit, and no test digit is blurred.
    there = np.stack([cv2.remap(*place, cv2.INTER_CUBIC) for place in zip(images, x, y, strict=True)])
    return there.clip(0, 1)[..., np.newaxis]
