"""Train one candidate on arrays. This module reads and writes no files and does not use MLflow."""

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from training.fitting.batches import TrainingBatches, head_targets
from training.fitting.distillation import distillation_folds, soft_targets
from training.fitting.masked_pretraining import pretrain_on_masked_frames
from training.fitting.optimizer import build_optimizer
from training.fitting.phantom_pretraining import pretrain_on_phantom
from training.models import losses
from training.models.batch_norm_recalibration import recalibrate_batch_norm
from training.models.imagenet_weights import load_imagenet_weights
from training.models.unet import build_unet
from training.workspace.learning_rate_schedule import learning_rate
from training.workspace.parameters import Candidate, Head, InputSize, Net, Recipe

HEAD_WEIGHTS = {"mask": 1.0, "presence": 0.2, "vessel": 0.5}  # of each head's loss
DEEP_SUPERVISION_WEIGHT = 0.25  # of the loss of each coarser decoder level

SplitArrays = dict[str, tuple[np.ndarray, np.ndarray]]


def train(
    candidate: Candidate, splits: SplitArrays, seed: int, callbacks: Sequence[keras.callbacks.Callback] = ()
) -> tuple[keras.Model, pd.DataFrame]:
    """Return the trained network, float32, and its history, one row for each epoch.

    splits: "train" and "validation", each frames float32 (N, height, width), normalised, and masks uint8
    (N, height, width, C), 0 or 1: nerve, then vessel where it is labelled. The history has Keras' metric names.
    """
    recipe = candidate.recipe
    frames, masks = splits["train"]
    net = candidate.net.model_copy(update={"heads": trainable_heads(candidate.net.heads, masks)})
    mask_count = masks.shape[-1]
    if recipe.distillation_folds:
        masks = soft_targets(frames, masks, _train_teachers(candidate, splits, seed))

    keras.utils.set_random_seed(seed)
    model = _build_initial_model(net, candidate.input)
    if recipe.masked_pretraining_epochs:
        pretrain_on_masked_frames(model, frames, recipe, seed, build_optimizer(recipe))
    _compile(model, net.heads, recipe)
    if recipe.phantom_pretraining_epochs:
        pretrain_on_phantom(model, candidate.input, recipe, mask_count, seed)

    heads = list(model.output)
    validation_frames, validation_masks = splits["validation"]
    history = model.fit(
        TrainingBatches(frames, masks, recipe, heads, seed),
        validation_data=(validation_frames[..., np.newaxis], head_targets(validation_masks, heads)),
        validation_batch_size=recipe.batch_size,
        epochs=recipe.epochs,
        callbacks=[*_schedule_callbacks(recipe), *callbacks],
        verbose=0,
    )
    trained = _to_float32(model, net, candidate.input)
    recalibrate_batch_norm(trained, _shuffled_inputs(frames, recipe.batch_size, seed))
    return trained, pd.DataFrame(history.history).rename_axis("epoch").reset_index()


def trainable_heads(heads: list[Head], masks: np.ndarray) -> list[Head]:
    """Return the heads for which masks, (N, height, width, C), have examples.

    "vessel" needs labelled vessels. "presence" needs frames with a nerve and frames without one.
    """
    has_nerve = masks[..., 0].any(axis=(1, 2))
    untrainable = set()
    if masks.shape[-1] < 2:
        untrainable.add("vessel")
    if has_nerve.all() or not has_nerve.any():
        untrainable.add("presence")
    return [head for head in heads if head not in untrainable]


def fastest_dtype_policy() -> str:
    """Return Keras' fastest dtype policy on this machine: bfloat16 where the hardware multiplies it, else float32."""
    cpuinfo = Path("/proc/cpuinfo")
    bfloat16_flags = {"amx_bf16", "avx512_bf16"}
    if tf.config.list_physical_devices("GPU") or (
        cpuinfo.exists() and bfloat16_flags & set(cpuinfo.read_text().split())
    ):
        return "mixed_bfloat16"
    return "float32"


def _train_teachers(candidate: Candidate, splits: SplitArrays, seed: int) -> list[keras.Model]:
    """Return one network for each distillation fold, trained with the candidate's recipe and a seed of its own."""
    recipe = candidate.recipe.model_copy(update={"distillation_folds": 0})
    teacher = candidate.model_copy(update={"recipe": recipe})
    folds = distillation_folds(*splits["train"], candidate.recipe.distillation_folds)
    return [train(teacher, {**splits, "train": fold}, seed + number)[0] for number, fold in enumerate(folds, start=1)]


def _build_initial_model(net: Net, size: InputSize) -> keras.Model:
    """Return the network before training, in the fastest dtype policy, with its initial weights."""
    # On CPUs the encoder's depthwise convolutions are slower in bfloat16 than in float32.
    keras.config.set_dtype_policy("float32" if net.encoder else fastest_dtype_policy())
    try:
        model = build_unet(net, size)
    finally:
        keras.config.set_dtype_policy("float32")
    if net.encoder_weights == "imagenet":
        load_imagenet_weights(model)
    return model


def _compile(model: keras.Model, trainable: list[Head], recipe: Recipe) -> None:
    """Set the model's optimizer, the loss of each trained head, and the validation Dice."""
    mask_loss = getattr(losses, recipe.loss)
    # Without its own head, presence is computed from the mask and has no loss.
    trained_heads = [head for head in model.output if head != "presence" or head in trainable]
    model.compile(
        optimizer=build_optimizer(recipe),
        loss={head: "binary_crossentropy" if head == "presence" else mask_loss for head in trained_heads},
        loss_weights={head: HEAD_WEIGHTS.get(head, DEEP_SUPERVISION_WEIGHT) for head in trained_heads},
        metrics={"mask": [keras.metrics.MeanMetricWrapper(losses.dice, name="dice")]},
    )


def _schedule_callbacks(recipe: Recipe) -> list[keras.callbacks.Callback]:
    """Return the callbacks of the recipe. Early stopping must see the averaged weights, so its callback is last."""
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


def _to_float32(model: keras.Model, net: Net, size: InputSize) -> keras.Model:
    """Return the same network in float32, without the optimizer."""
    copy = build_unet(net, size)
    copy.set_weights(model.get_weights())
    return copy


def _shuffled_inputs(frames: np.ndarray, batch_size: int, seed: int):
    """Yield full batches (B, height, width, 1) of frames in random order: neighbouring frames are too similar."""
    size = min(batch_size, len(frames))
    order = np.random.default_rng(seed).permutation(len(frames))[: len(frames) // size * size]
    for indices in order.reshape(-1, size):
        yield frames[indices][..., np.newaxis]
