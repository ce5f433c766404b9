"""Synthetic pre-training: the network first trains on phantom frames."""

from concurrent.futures import ThreadPoolExecutor
from itertools import product

import keras
import numpy as np

from service.decoding.frame import Frame
from service.inference.preprocessing import preprocess
from service.model.card import NetworkInput, Normalization
from training.data.prepared_arrays import FrameArrays, resize_labels
from training.data.sources import phantom
from training.fitting.batches import TrainingBatches
from training.workspace.nerve_parameters import InputParameters, Recipe

PHANTOM_SEED = 7  # unlike the seed of the phantom data source: no pre-training frame is a test frame
SUBJECTS = 60
FRAMES_PER_SUBJECT = 4


def pretrain_on_phantom(
    model: keras.Model, parameters: InputParameters, recipe: Recipe, classes: int, seed: int
) -> None:
    """Train a compiled model on phantom frames for the recipe's phantom_pretraining_epochs.

    The learning rate is the default of Adam, 0.001: the recipe's phases start after this.

    classes: 1 for nerve, 2 for nerve and vessel.
    """
    arrays = phantom_arrays(parameters, classes)
    batches = TrainingBatches(arrays, recipe, list(model.output), seed)
    model.fit(batches, epochs=recipe.phantom_pretraining_epochs, verbose=0)


def phantom_arrays(parameters: InputParameters, classes: int) -> FrameArrays:
    """Return phantom frames, each normalised by itself, and their masks of `classes` classes."""
    network_input = NetworkInput(parameters.height, parameters.width, Normalization("frame"))

    def prepare(numbers: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        pixels, labels = phantom.simulate_frame(PHANTOM_SEED, *numbers)
        frame = Frame(pixels)
        masks = resize_labels(frame.content_box.crop(labels), network_input, classes)
        return preprocess(frame, network_input)[..., 0], masks

    numbers = product(range(1, SUBJECTS + 1), range(1, FRAMES_PER_SUBJECT + 1))
    with ThreadPoolExecutor() as threads:
        frames, masks = zip(*threads.map(prepare, numbers), strict=True)
    return FrameArrays(np.stack(frames), np.stack(masks))
