"""The encoder with ImageNet weights recognises an ImageNet class."""

from importlib import resources

import cv2
import keras
import numpy as np
import pytest
from skimage import data

from training.models.efficientnet import ENCODER_PREFIX
from training.models.imagenet_weights import (
    WEIGHTS_FILE,
    WEIGHTS_PACKAGE,
    load_imagenet_weights,
    read_imagenet_weights,
)
from training.models.unet import build_unet
from training.workspace.nerve_parameters import InputParameters, Net

pytestmark = pytest.mark.slow

COFFEE_CLASSES = {504, 967, 968}  # coffee mug, espresso, cup


def test_the_encoder_recognises_a_cup_of_coffee():
    """The encoder, and after it the last layers of EfficientNet-Lite0, which the U-net does not use."""
    net = Net(filters=[8, 8, 8, 8], stem=2, batch_norm=True, heads=["mask"], encoder="efficientnet_lite0")
    model = build_unet(net, InputParameters(height=224, width=224, normalization="frame"))
    load_imagenet_weights(model)
    grey = cv2.cvtColor(data.coffee()[:, 100:500], cv2.COLOR_RGB2GRAY)
    image = (cv2.resize(grey, (224, 224), interpolation=cv2.INTER_AREA).astype(np.float32) - 127) / 128
    deepest = model.get_layer(f"{ENCODER_PREFIX}_blocks.15._bn2").output
    features = np.asarray(keras.Model(model.inputs[0], deepest)(image[np.newaxis, ..., np.newaxis]))[0]

    values = read_imagenet_weights((resources.files(WEIGHTS_PACKAGE) / WEIGHTS_FILE).read_bytes())
    head = features @ values["_conv_head.weight"][:, :, 0, 0].T
    head = (head - values["_bn1.running_mean"]) / np.sqrt(values["_bn1.running_var"] + 1e-3)
    head = np.clip(head * values["_bn1.weight"] + values["_bn1.bias"], 0, 6).mean(axis=(0, 1))
    scores = values["_fc.weight"] @ head + values["_fc.bias"]
    assert set(np.argsort(scores)[-3:]) & COFFEE_CLASSES


def test_another_weights_file_is_rejected_before_it_is_read():
    with pytest.raises(ValueError, match="unexpected SHA-256"):
        read_imagenet_weights(b"cos\nsystem\n(S'true'\ntR.")
