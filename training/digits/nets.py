"""Build a network from its entry in params.yaml, and train it."""

import math
from collections.abc import Iterable
from typing import Any

import cv2
import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from training.data.sources.mnist import Digits
from training.models.batch_norm_recalibration import recalibrate_batch_norm
from training.workspace.digits_parameters import DigitAugmentation, DigitNet, KerasObject
from training.workspace.learning_rate_schedule import learning_rate
from training.workspace.parameter_validation import ParameterError

STEPS_PER_EXECUTION = 25  # a small network's step is shorter than the return to Python after it
TEST_BATCH_SIZE = 500
RECALIBRATION_DIGITS = 4000


def build(layers: Iterable[KerasObject]) -> keras.Sequential:
    """Return the network with these layers: float32 (N, 28, 28, 1) in 0..1 -> probabilities float32 (N, 10).

    Raises ParameterError for a layer that Keras does not have or cannot make.
    """
    return keras.Sequential([keras.Input((28, 28, 1)), *(make_keras_object(keras.layers, entry) for entry in layers)])


def make_keras_object(module: Any, entry: KerasObject, **arguments: Any) -> Any:
    """Return the object that `entry` names in a module of Keras, made with the entry's arguments and `arguments`.

    Raises ParameterError if Keras has no such object or rejects the arguments.
    """
    name, entry_arguments = next(iter(entry.items())) if isinstance(entry, dict) else (entry, {})
    try:
        return getattr(module, name)(**entry_arguments, **arguments)
    except (AttributeError, TypeError, ValueError) as error:
        message = f"params.yaml: {module.__name__} cannot make {name} with {entry_arguments}: {error}"
        raise ParameterError(message) from error


def train(
    net: DigitNet, training: Digits, test: Digits, seed: int, callbacks: Iterable[keras.callbacks.Callback] = ()
) -> tuple[keras.Model, pd.DataFrame]:
    """Train a network; returns it with its history by epoch: loss, accuracy, test_loss, test_accuracy, learning_rate.

    Like the lecture, this measures the test digits after each epoch. No decision depends on them.
    """
    keras.utils.set_random_seed(seed)
    model = build(net.layers)
    ema = {"use_ema": True, "ema_momentum": net.ema_momentum} if net.ema_momentum else {}
    model.compile(
        optimizer=make_keras_object(keras.optimizers, net.optimizer, **ema),
        loss=make_keras_object(keras.losses, net.loss),
        metrics=["accuracy"],
        steps_per_execution=STEPS_PER_EXECUTION,
        jit_compile=False,  # slower on CPUs
    )
    schedule = [keras.callbacks.LearningRateScheduler(lambda epoch, _: learning_rate(net.phases, epoch))]
    if net.ema_momentum:
        schedule.append(keras.callbacks.SwapEMAWeights(swap_on_epoch=True))
    fitted = model.fit(
        training_batches(net, training, seed),
        validation_data=test.tensors(),
        validation_batch_size=TEST_BATCH_SIZE,
        epochs=net.epochs,
        callbacks=[*schedule, *callbacks],
        shuffle=False,  # training_batches shuffles
        verbose=0,
    )
    if net.augment:
        images, _ = training.first(RECALIBRATION_DIGITS).tensors()
        batches = tf.data.Dataset.from_tensor_slices(images).batch(TEST_BATCH_SIZE, drop_remainder=True)
        recalibrate_batch_norm(model, batches)
    return model, pd.DataFrame(fitted.history).rename(columns=lambda name: name.replace("val_", "test_"))


def train_history(net: DigitNet, training: Digits, test: Digits, seed: int, callbacks=()) -> pd.DataFrame:
    """Train a network; returns only its history."""
    return train(net, training, test, seed, callbacks)[1]


def training_batches(net: DigitNet, training: Digits, seed: int) -> tf.data.Dataset:
    """Return one epoch of training digits. Each epoch shuffles and augments them anew, or only shuffles them."""
    images, targets = training.tensors()
    digits = tf.data.Dataset.from_tensor_slices((images, targets)).shuffle(len(images), seed=seed)
    batches = digits.batch(net.batch_size)
    if augment := net.augment:
        rng = np.random.default_rng(seed)
        shape = images.shape[1:]

        def augment_batch(images: tf.Tensor, targets: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            result = tf.numpy_function(lambda batch: augment_digits(batch, augment, rng), [images], tf.float32)
            return tf.ensure_shape(result, (None, *shape)), targets

        batches = batches.map(augment_batch)
    return batches.prefetch(4)


def augment_digits(images: np.ndarray, augment: DigitAugmentation, rng: np.random.Generator) -> np.ndarray:
    """Rotate, shear, scale and shift each digit at random: float32 (N, 28, 28, 1) -> float32 (N, 28, 28, 1)."""
    count, side = images.shape[:2]

    def draw(limit: float) -> np.ndarray:
        return rng.uniform(-limit, limit, (count, 1, 1)).astype(np.float32)

    down, across = np.mgrid[:side, :side].astype(np.float32) - (side - 1) / 2
    angle = draw(math.radians(augment.rotate))
    sin, cos = np.sin(angle), np.cos(angle)
    sheared = across + draw(augment.shear) * down
    # x and y: the position in the old image of each pixel of the new image.
    x = np.exp(draw(augment.zoom)) * (cos * sheared - sin * down) + draw(augment.shift) * side + (side - 1) / 2
    y = np.exp(draw(augment.zoom)) * (sin * sheared + cos * down) + draw(augment.shift) * side + (side - 1) / 2
    # Linear interpolation would blur each training digit, and the test digits are not blurred.
    augmented = np.stack([cv2.remap(*digit, cv2.INTER_CUBIC) for digit in zip(images, x, y, strict=True)])
    return augmented.clip(0, 1)[..., np.newaxis]
