"""A training on several devices is the training on one; the number format follows the hardware."""

import json
import subprocess
import sys

import pytest

from training.fitting import devices
from training.fitting.devices import choose_dtype_policy

pytestmark = pytest.mark.slow  # TensorFlow

# A process can split its CPU into virtual devices only before TensorFlow begins.
TRAIN = """
import json, sys
import numpy as np
import tensorflow as tf
from training.data.prepared_arrays import FrameArrays
from training.fitting import trainer
from training.workspace.nerve_parameters import read_candidate

devices = int(sys.argv[1])
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * devices)
if devices > 1:
    strategy = tf.distribute.MirroredStrategy([f"CPU:{number}" for number in range(devices)])
    trainer.training_strategy = lambda: strategy
light = read_candidate("light")
phase = light.recipe.phases[0].model_copy(update={"epochs": 3})
recipe = light.recipe.model_copy(update={"phases": [phase], "batch_size": 4, "steps_per_epoch": 4})
net = light.net.model_copy(update={"heads": ["mask"], "filters": [8, 8]})  # the presence head has dropout
size = light.input.model_copy(update={"height": 32, "width": 48})
rng = np.random.default_rng(1)
frames = rng.normal(size=(16, 32, 48)).astype(np.float32)
arrays = FrameArrays(frames, (frames > 0.5).astype(np.uint8)[..., np.newaxis])
candidate = light.model_copy(update={"recipe": recipe, "net": net, "input": size})
model, history = trainer.train(candidate, {"train": arrays, "validation": arrays}, seed=1)
print(json.dumps(history[["loss", "val_loss"]].to_numpy().tolist()))
"""


def losses(device_count: int) -> list[list[float]]:
    command = [sys.executable, "-c", TRAIN, str(device_count)]
    output = subprocess.run(command, capture_output=True, text=True)
    assert output.returncode == 0, output.stderr[-3000:]
    return json.loads(output.stdout.splitlines()[-1])


def test_two_devices_have_the_losses_of_one_at_the_same_batch() -> None:
    one, two = losses(1), losses(2)
    assert len(two) == 3
    for row, expected in zip(two, one, strict=True):
        assert row == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("capability", "policy"),
    [((9, 0), "mixed_bfloat16"), ((8, 6), "mixed_bfloat16"), ((7, 5), "mixed_float16"), ((6, 1), "float32")],
)
def test_the_number_format_of_gpus(monkeypatch, capability, policy) -> None:
    monkeypatch.setattr(devices.tf.config, "list_physical_devices", lambda kind: ["GPU:0", "GPU:1"])
    details = {"GPU:0": (9, 0), "GPU:1": capability}
    monkeypatch.setattr(
        devices.tf.config.experimental, "get_device_details", lambda gpu: {"compute_capability": details[gpu]}
    )
    assert choose_dtype_policy() == policy


def test_a_training_on_a_cpu_is_in_float32(monkeypatch) -> None:
    monkeypatch.setattr(devices.tf.config, "list_physical_devices", lambda kind: [])
    assert choose_dtype_policy() == "float32"
