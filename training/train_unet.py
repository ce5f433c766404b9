"""Stage train_unet: one candidate trained, its run logged to MLflow, its network exported.

`python -m training.train_unet NET` writes to models/unets/NET
  unet.keras   the trained net, float32
  unet.onnx    the same net as it is served: frame -> mask, presence
  input.json   what it takes, as prepare wrote it
  history.csv  losses, Dice and learning rate by epoch
"""

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from training import parameters, tracking
from training.parameters import Candidate, Head, InputSize, Net, Recipe
from training.prepare import PREPARED, read_sides
from training.quiet import import_tensorflow
from training.recipe import learning_rate, settle
from training.teachers import lessons, softened
from training.whole import whole

if TYPE_CHECKING:
    import keras

UNETS = Path("models/unets")
HEAD_WEIGHTS = {"mask": 1.0, "presence": 0.2, "vessel": 0.5}
COARSE_WEIGHT = 0.25  # of each coarser level's mask


def precision() -> str:
    """Keras' policy that is fastest here: bfloat16 where the hardware multiplies it, else float32."""
    import tensorflow as tf

    cpu = Path("/proc/cpuinfo")
    native = {"amx_bf16", "avx512_bf16"}
    if tf.config.list_physical_devices("GPU") or (cpu.exists() and native & set(cpu.read_text().split())):
        return "mixed_bfloat16"
    return "float32"


Sides = dict[str, tuple[np.ndarray, np.ndarray]]


def train(candidate: Candidate, sides: Sides, seed: int, callbacks=()):
    """Train a candidate; gives back the net in float32 and its history, a DataFrame with a row an epoch.

    sides: for "train" and "validation", frames float32 (N, height, width), normalised, and masks
    uint8 (N, height, width, C), 0 or 1: nerve, then vessel where it is labelled.
    """
    import keras

    from training import losses
    from training.augment import Batches, targets
    from training.restored import restore
    from training.simulated import simulated
    from training.unet import build

    frames, masks = sides["train"]
    heads, labelled = teachable(candidate.net.heads, masks), masks.shape[-1]
    net = candidate.net.model_copy(update={"heads": heads})
    recipe = candidate.recipe
    if recipe.teachers:
        masks = softened(frames, masks, _teachers(candidate, sides, seed))

    keras.utils.set_random_seed(seed)
    model = _at_start(net, candidate.input)
    if recipe.restored:
        restore(model, frames, recipe, seed, _optimizer(recipe))
    answered = list(model.output)
    taught = [head for head in answered if head != "presence" or head in heads]  # or it is read off the mask
    model.compile(
        optimizer=_optimizer(recipe),
        loss={head: "binary_crossentropy" if head == "presence" else getattr(losses, recipe.loss) for head in taught},
        loss_weights={head: HEAD_WEIGHTS.get(head, COARSE_WEIGHT) for head in taught},
        metrics={"mask": [keras.metrics.MeanMetricWrapper(losses.dice, name="dice")]},
    )
    if recipe.simulated:
        begun = Batches(*simulated(candidate.input, labelled), recipe, answered, seed)
        model.fit(begun, epochs=recipe.simulated, verbose=0)
    looked_at, drawn = sides["validation"]
    history = model.fit(
        Batches(frames, masks, recipe, answered, seed),
        validation_data=(looked_at[..., np.newaxis], targets(drawn, answered)),
        validation_batch_size=recipe.batch,
        epochs=recipe.epochs,
        callbacks=[*_schedule(candidate), *callbacks],
        verbose=0,
    )
    served = build(net, candidate.input)
    served.set_weights(model.get_weights())
    # In any order but their own: neighbours are alike, and so would be a batch of them.
    size = min(recipe.batch, len(frames))
    order = np.random.default_rng(seed).permutation(len(frames))[: len(frames) // size * size]
    settle(served, (frames[batch][..., np.newaxis] for batch in order.reshape(-1, size)))
    return served, pd.DataFrame(history.history).rename_axis("epoch").reset_index()


def teachable(heads: list[Head], masks: np.ndarray) -> list[Head]:
    """Those of `heads` that `masks`, (N, height, width, C), can teach: vessels where they are labelled, and presence
    where frames with a nerve and frames without one are there to be told apart."""
    nerve = masks[..., 0].any(axis=(1, 2))
    unknown = {"vessel"} if masks.shape[-1] < 2 else set()
    if nerve.all() or not nerve.any():
        unknown.add("presence")
    return [head for head in heads if head not in unknown]


def _teachers(candidate: Candidate, sides: Sides, seed: int) -> list["keras.Model"]:
    alone = candidate.model_copy(update={"recipe": candidate.recipe.model_copy(update={"teachers": 0})})
    each = enumerate(lessons(*sides["train"], candidate.recipe.teachers), start=1)
    return [train(alone, {**sides, "train": lesson}, seed + number)[0] for number, lesson in each]


def _at_start(net: Net, size: InputSize) -> "keras.Model":
    """The net before it is trained, in the precision that is trained in."""
    import keras

    from training.efficientnet import start_from_imagenet
    from training.unet import build

    # On CPUs the encoder's convolutions channel by channel take longer in bfloat16 than in float32.
    keras.config.set_dtype_policy("float32" if net.encoder else precision())
    try:
        model = build(net, size)
    finally:
        keras.config.set_dtype_policy("float32")
    if net.start == "imagenet":
        start_from_imagenet(model)
    return model


def _optimizer(recipe: Recipe) -> "keras.optimizers.Optimizer":
    """Adam, by which an encoder's weights move at their own share of the learning rate."""
    import keras

    from training.efficientnet import ENCODER

    class TwoRates(keras.optimizers.Adam):
        def update_step(self, gradient, variable, learning_rate):
            path = self._trainable_variables[self._get_variable_index(variable)].path
            share = recipe.encoder_rate if path.startswith(ENCODER) else 1.0
            super().update_step(gradient, variable, learning_rate * share)

    return TwoRates(use_ema=bool(recipe.average), ema_momentum=recipe.average or 0.0)


def _schedule(candidate: Candidate) -> list["keras.callbacks.Callback"]:
    """Learning rates, the weights' average and early stopping, in the order in which they must see an epoch's end."""
    import keras

    recipe = candidate.recipe
    callbacks = [keras.callbacks.LearningRateScheduler(lambda epoch, _: learning_rate(recipe.phases, epoch))]
    if recipe.average:
        callbacks.append(keras.callbacks.SwapEMAWeights(swap_on_epoch=True))
    if recipe.patience:
        callbacks.append(
            keras.callbacks.EarlyStopping(
                monitor="val_mask_dice", mode="max", patience=recipe.patience, restore_best_weights=True
            )
        )
    return callbacks


def export(model: "keras.Model", path: Path) -> None:
    """The net as it is served: ONNX from "frame" to "mask" and "presence", any number of frames at once."""
    import keras
    import onnx

    heads = ("mask", "presence")
    served = keras.Model(model.inputs, [model.get_layer(head).output for head in heads])
    served([np.zeros((1, *model.input_shape[1:]), np.float32)])  # Keras exports only what was called once
    served.export(path, format="onnx", verbose=False)
    network = onnx.load(path)
    graph = network.graph
    renamed = dict(zip((output.name for output in graph.output), heads, strict=True))
    renamed[graph.input[0].name] = "frame"
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    for value in (*graph.input, *graph.output):
        value.name = renamed[value.name]
    onnx.checker.check_model(network)
    onnx.save(network, path)


def main(name: str) -> None:
    import_tensorflow()
    import mlflow

    from training.watch import Curves, Masks, Progress

    candidate, nerve = parameters.candidate(name), parameters.nerve()
    prepared = PREPARED / name
    sides = read_sides(prepared)
    tracking.store()
    with (
        whole(UNETS / name) as folder,
        mlflow.start_run(run_name=name, tags=tracking.tags(nerve.source)),
    ):
        mlflow.log_params(tracking.flat(candidate.model_dump()))
        tracking.log_frames(sides)
        shown = {"validation": "val_loss", "Dice": "val_mask_dice"}
        callbacks = [Progress(name, candidate.recipe.epochs, shown), Curves(), Masks(*sides["validation"])]
        model, history = train(candidate, sides, nerve.seed, callbacks)
        model.save(folder / "unet.keras")
        export(model, folder / "unet.onnx")
        history.to_csv(folder / "history.csv", index=False)
        shutil.copy(prepared / "input.json", folder)
        tracking.log_model(model, folder)


if __name__ == "__main__":
    main(sys.argv[1])
