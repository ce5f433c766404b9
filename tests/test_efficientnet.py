"""The encoder that brings ImageNet's weights along: it still sees what they have learnt to see."""

from importlib import resources

import numpy as np
import pytest
from pydantic import ValidationError

from training.efficientnet import ENCODER, FILE, PACKAGE, read_weights, start_from_imagenet
from training.parameters import InputSize, Net

SIZE = InputSize(height=224, width=224, normalisation="frame")
NET = Net(
    filters=[8, 8, 8, 8],
    stem=2,
    batch_norm=True,
    heads=["mask", "presence"],
    encoder="efficientnet_lite0",
    start="imagenet",
)
COFFEE = {504, 967, 968}  # ImageNet's coffee mug, espresso, cup


@pytest.fixture(scope="module")
def values():
    return read_weights((resources.files(PACKAGE) / FILE).read_bytes())


@pytest.fixture(scope="module")
def model():
    from training.unet import build

    model = build(NET, SIZE)
    start_from_imagenet(model)
    return model


def test_a_grey_cup_of_coffee_is_one(model, values):
    """The way down, and above it the file's own last layers, which the U-net leaves out."""
    import cv2
    import keras
    from skimage import data

    grey = cv2.cvtColor(data.coffee()[:, 100:500], cv2.COLOR_RGB2GRAY)
    picture = (cv2.resize(grey, (224, 224), interpolation=cv2.INTER_AREA).astype(np.float32) - 127) / 128
    deepest = model.get_layer(f"{ENCODER}_blocks.15._bn2").output
    features = np.asarray(keras.Model(model.inputs, deepest)(picture[np.newaxis, ..., np.newaxis]))[0]

    head = features @ values["_conv_head.weight"][:, :, 0, 0].T
    head = (head - values["_bn1.running_mean"]) / np.sqrt(values["_bn1.running_var"] + 1e-3)
    head = np.clip(head * values["_bn1.weight"] + values["_bn1.bias"], 0, 6).mean(axis=(0, 1))
    scores = values["_fc.weight"] @ head + values["_fc.bias"]
    assert set(np.argsort(scores)[-3:]) & COFFEE


def test_another_file_is_not_opened():
    with pytest.raises(ValueError, match="not the file that is known"):
        read_weights(b"cos\nsystem\n(S'true'\ntR.")


def test_its_answers_are_at_its_input_s_size(model):
    answers = model(np.zeros((2, 224, 224, 1), np.float32))
    assert tuple(answers["mask"].shape) == (2, 224, 224, 1)
    assert tuple(answers["presence"].shape) == (2, 1)


@pytest.mark.parametrize("faulty", [{"stem": 1}, {"filters": [8, 8, 8]}, {"encoder": None}])
def test_a_net_that_does_not_fit_its_encoder_is_refused(faulty):
    with pytest.raises(ValidationError):
        Net(**NET.model_dump() | faulty)


def test_an_encoder_moves_at_its_own_rate(values):
    from tests.test_unet import discs, recipe
    from training.parameters import Candidate
    from training.train_unet import train

    frames, masks = (np.repeat(np.repeat(array, 2, axis=1), 2, axis=2)[:, :, :64] for array in discs(8))
    candidate = Candidate(
        mirrored=False,
        input=InputSize(height=64, width=64, normalisation="frame"),
        net=NET,
        recipe=recipe(1, encoder_rate=0.0),
    )
    model, _ = train(candidate, {"train": (frames, masks), "validation": (frames, masks)}, seed=1)
    kept = model.get_layer(f"{ENCODER}_blocks.3._expand_conv").get_weights()[0]
    np.testing.assert_array_equal(kept, values["_blocks.3._expand_conv.weight"].transpose(2, 3, 1, 0))
    first_above = next(layer for layer in model.layers if "conv2d_transpose" in layer.name)
    assert np.abs(first_above.get_weights()[1]).max() > 0  # its biases began at 0
