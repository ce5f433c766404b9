"""The devices of a training, and the number format that they compute fastest in."""

from pathlib import Path

import tensorflow as tf

BFLOAT16_CPU_FLAGS = {"amx_bf16", "avx512_bf16"}
BFLOAT16_GPU, FLOAT16_GPU = (8, 0), (7, 0)  # the first compute capability with tensor cores for this format


def training_strategy() -> tf.distribute.Strategy:
    """Return the strategy of a training: all GPUs that TensorFlow sees, or the CPU.

    CUDA_VISIBLE_DEVICES chooses among several GPUs. Each of them gets an equal part of every batch.
    """
    gpus = tf.config.list_logical_devices("GPU")
    return tf.distribute.MirroredStrategy() if len(gpus) > 1 else tf.distribute.get_strategy()


def fastest_dtype_policy(has_encoder: bool = False) -> str:
    """Return Keras' fastest dtype policy on this machine for a network with a depthwise encoder, or without.

    On CPUs depthwise convolutions are slower in bfloat16 than in float32.
    """
    if gpus := tf.config.list_physical_devices("GPU"):
        details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
        capability = min(detail.get("compute_capability", (0, 0)) for detail in details)
        if capability >= BFLOAT16_GPU:
            return "mixed_bfloat16"
        return "mixed_float16" if capability >= FLOAT16_GPU else "float32"
    cpuinfo = Path("/proc/cpuinfo")
    has_bfloat16 = cpuinfo.exists() and BFLOAT16_CPU_FLAGS & set(cpuinfo.read_text().split())
    return "mixed_bfloat16" if has_bfloat16 and not has_encoder else "float32"
