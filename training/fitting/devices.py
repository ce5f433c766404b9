"""The devices of a training, and the number format that it computes in."""

import tensorflow as tf

BFLOAT16_GPU, FLOAT16_GPU = (8, 0), (7, 0)  # the first compute capability with tensor cores for this format


def training_strategy() -> tf.distribute.Strategy:
    """Return the strategy of a training: all GPUs that TensorFlow sees, or the CPU.

    CUDA_VISIBLE_DEVICES chooses among several GPUs. Each of them gets an equal part of every batch.
    """
    gpus = tf.config.list_logical_devices("GPU")
    return tf.distribute.MirroredStrategy() if len(gpus) > 1 else tf.distribute.get_strategy()


def choose_dtype_policy() -> str:
    """Return Keras' dtype policy for a training on this machine.

    GPUs: the one that their tensor cores compute. CPUs: float32, also where they have bfloat16, which is 1.2 times as
    fast but trains worse networks: the demo's Dice is 0.924 in bfloat16, 0.967 in float32.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "float32"
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    capability = min(detail.get("compute_capability", (0, 0)) for detail in details)
    if capability >= BFLOAT16_GPU:
        return "mixed_bfloat16"
    return "mixed_float16" if capability >= FLOAT16_GPU else "float32"
