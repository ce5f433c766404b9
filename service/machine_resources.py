"""The CPU cores, the memory, the GPU and the open files that this process may use."""

import ctypes
import os
from pathlib import Path

MAX_GPU_NAME_BYTES = 256
CGROUP = Path("/sys/fs/cgroup")  # inside a container: the container's own control group
# Worker processes of a service on a CPU: one answers while the other is replaced. On a GPU there is one worker, because
# all workers would use the same GPU.
CPU_WORKERS = 2


def cpu_cores() -> int:
    """Return the number of CPU cores that this process may use, at least 1.

    Counts the cores of the CPU affinity. A container's CPU quota, rounded to whole cores, limits the number.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = (CGROUP / "cpu.max").read_text().split()
        return max(1, min(cores, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no control group, or the quota "max"
        return cores


def memory_bytes(cgroup: Path = CGROUP) -> int:
    """Return the bytes of memory that all processes of the service may use together.

    Returns the machine's memory, or a container's memory limit if that is lower.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit_file in ("memory.max", "memory/memory.limit_in_bytes"):  # of cgroup version 2 and of version 1
        try:
            memory = min(memory, int((cgroup / limit_file).read_text()))
        except (OSError, ValueError):  # no control group, or the limit "max"
            continue
    return memory


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


def raise_open_file_limit() -> None:
    """Allow this process as many open files as the system does: for its connections and their uploads."""
    import resource  # Windows does not have it

    hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))
