"""Whether there is an NVIDIA GPU that the service can use, and its name."""

import ctypes
import os
from importlib.metadata import distributions
from pathlib import Path

MAX_GPU_NAME_BYTES = 256
DEVICES, GPU_PACKAGE = Path("/dev"), "onnxruntime-gpu"


def has_gpu(devices: Path = DEVICES) -> bool:
    """Return whether the service can use an NVIDIA GPU: there is one, and onnxruntime-gpu is installed.

    This starts no driver, so every process may ask.
    """
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    has_device = any(devices.glob("nvidia[0-9]*")) or (devices / "dxg").exists()  # dxg: Windows' subsystem for Linux
    return has_device and bool(list(distributions(name=GPU_PACKAGE)))


def gpu_name() -> str | None:
    """Return the name of the first NVIDIA GPU that this process can use, from its driver; None without one."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    name = ctypes.create_string_buffer(MAX_GPU_NAME_BYTES)
    if driver.cuInit(0) or driver.cuDeviceGetName(name, len(name), 0):
        return None
    return name.value.decode()
