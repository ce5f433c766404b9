"""Train one candidate on arrays. This module reads and writes no files and does not use MLflow."""

from collections.abc import Iterator, Sequence

import keras
import numpy as np
import pandas as pd

from training.data.prepared_arrays import FrameArrays, frames_with_nerve
from training.fitting.batches import TrainingBatches, ValidationBatches
from training.fitting.devices import choose_dtype_policy, training_strategy
from training.fitting.phantom_pretraining import pretrain_on_phantom
from training.models import losses
from training.models.batch_norm_recalibration import recalibrate_batch_norm
from training.models.fused_batch_norm import fuse_batch_norm
from training.models.imagenet_weights import load_imagenet_weights
from training.models.unet import build_unet
from training.workspace.learning_rate_schedule import learning_rate
from training.workspace.nerve_parameters import Candidate, Head, InputParameters, Net, Recipe

MAX_RECALIBRATION_FRAMES = 8192  # statistics need no more (Wu and Johnson 2021, section 3)


def train(
    candidate: Candidate,
    splits: dict[str, FrameArrays],
    seed: int,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> tuple[keras.Model, pd.DataFrame]:
    """Return the trained network, float32, and its history, one row for each epoch, with Keras' metric names.

    splits: "train" and "validation".
    """
    recipe, training, validation = candidate.recipe, splits["train"], splits["validation"]
    net = candidate.net.model_copy(update={"heads": trainable_heads(candidate.net.heads, training)})

    keras.utils.set_random_seed(seed)
    with training_strategy().scope():
        model = _build_initial_model(net, candidate.input)
        _compile(model, net, recipe)
    if recipe.phantom_pretraining_epochs:
        pretrain_on_phantom(model, candidate.input, recipe, training.masks.shape[-1], seed)

    heads = list(model.output)
    history = model.fit(
        TrainingBatches(training, recipe, heads, seed),
        validation_data=ValidationBatches(validation, recipe.batch_size, heads),
        epochs=recipe.epochs,
        callbacks=[*_recipe_callbacks(recipe), *callbacks],
        verbose=0,
    )
    trained = _to_float32(model, net, candidate.input)
    recalibrate_batch_norm(trained, _shuffled_inputs(training, recipe.batch_size, seed))
    return trained, pd.DataFrame(history.history).rename_axis("epoch").reset_index()


def trainable_heads(heads: list[Head], arrays: FrameArrays) -> list[Head]:
    """Return the heads for which the masks have examples.

    "vessel" needs labelled vessels. "presence" needs frames with a nerve and frames without one.
    """
    has_nerve = frames_with_nerve(arrays)
    untrainable = set()
    if arrays.masks.shape[-1] < 2:
        untrainable.add("vessel")
    if has_nerve.all() or not has_nerve.any():
        untrainable.add("presence")
    return [head for head in heads if head not in untrainable]


def _build_initial_model(net: Net, parameters: InputParameters) -> keras.Model:
    """Return the network before training, in the dtype policy of this machine, with its initial weights."""
    keras.config.set_dtype_policy(choose_dtype_policy())
    try:
        model = build_unet(net, parameters)
    finally:
        keras.config.set_dtype_policy("float32")
    if net.encoder_weights == "imagenet":
        load_imagenet_weights(model)
    return fuse_batch_norm(model)


def _compile(model: keras.Model, net: Net, recipe: Recipe) -> None:
    """Set the model's optimizer, the loss of each head, and the validation Dice."""
    mask_loss = losses.share_between_devices(getattr(losses, recipe.loss))
    # Without its own head, presence is computed from the mask and has no loss.
    heads_with_loss = [head for head in model.output if head != "presence" or head in net.heads]
    model.compile(
        # The schedule sets the learning rate before each epoch.
        optimizer=keras.optimizers.Adam(use_ema=bool(recipe.ema_momentum), ema_momentum=recipe.ema_momentum or 0.0),
        loss={head: "binary_crossentropy" if head == "presence" else mask_loss for head in heads_with_loss},
        loss_weights={head: losses.loss_weight(head) for head in heads_with_loss},
        metrics={"mask": [keras.metrics.MeanMetricWrapper(losses.dice, name="dice")]},
        jit_compile=False,  # Keras would use XLA on a GPU; `deep` did not compile within five minutes on a CPU
    )


def _recipe_callbacks(recipe: Recipe) -> list[keras.callbacks.Callback]:
    """Return the learning-rate schedule, weight averaging and early stopping of the recipe.

    Early stopping must see the averaged weights, so its callback is last.
    """
    callbacks = [keras.callbacks.LearningRateScheduler(lambda epoch, _: learning_rate(recipe.phases, epoch))]
    if recipe.ema_momentum:
        callbacks.append(keras.callbacks.SwapEMAWeights(swap_on_epoch=True))
    if recipe.patience:
        callbacks.append(
            keras.callbacks.EarlyStopping(
                monitor="val_mask_dice", mode="max", patience=recipe.patience, restore_best_weights=True
            )
        )
    return callbacks


def _to_float32(model: keras.Model, net: Net, parameters: InputParameters) -> keras.Model:
    """Return the same network in float32, without the optimizer."""
    copy = build_unet(net, parameters)
    copy.set_weights(model.get_weights())
    return copy


def _shuffled_inputs(arrays: FrameArrays, batch_size: int, seed: int) -> Iterator[np.ndarray]:
    """Yield full batches (B, height, width, 1) of frames in random order: neighbouring frames are too similar."""
    count = len(arrays.frames)
    size = min(batch_size, count)
    order = np.random.default_rng(seed).permutation(count)[: min(count, MAX_RECALIBRATION_FRAMES) // size * size]
    for indices in order.reshape(-1, size):
        yield arrays.frames[indices][..., np.newaxis]
