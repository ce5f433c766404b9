"""The CPU cores, the memory, the GPU and the open files that this process may use."""

import ctypes
import gc
import os
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path, PurePosixPath

# The kernel writes no core file of one byte. It also starts no program for core dumps at this limit, but at 0 it does.
NO_CORE_BYTES = 1
MAX_GPU_NAME_BYTES = 256
CGROUP = Path("/sys/fs/cgroup")  # inside a container: the container's own control group
OWN_CGROUPS = Path("/proc/self/cgroup")
DEVICES, GPU_PACKAGE = Path("/dev"), "onnxruntime-gpu"
# Parameters of glibc's mallopt.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -3, -4, -8
KEPT_BYTES = 2**31 - 2**20  # free memory that a training keeps; mallopt takes no larger number
MIN_RETURNED_BYTES = 4 * 2**20


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


def memory_bytes(cgroup: Path = CGROUP, own_cgroups: Path = OWN_CGROUPS) -> int:
    """Return the bytes of memory that all processes of the service may use together.

    Returns the machine's memory, or the lowest limit of a control group that this process is in: of a container, or of
    a service of systemd.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit_file in _memory_limit_files(cgroup, own_cgroups):
        try:
            memory = min(memory, int(limit_file.read_text()))
        except (OSError, ValueError):  # no such control group, or the limit "max"
            continue
    return memory


def _memory_limit_files(cgroup: Path, own_cgroups: Path) -> Iterator[Path]:
    """Yield the files that may hold a limit: of the control groups that are mounted, and of those of this process."""
    version_1 = cgroup / "memory"
    yield cgroup / "memory.max"
    yield version_1 / "memory.limit_in_bytes"
    try:
        lines = own_cgroups.read_text().splitlines()
    except OSError:  # not on Linux
        return
    for _, controllers, path in (line.split(":", 2) for line in lines):
        folders = [PurePosixPath(path.lstrip("/")), *PurePosixPath(path.lstrip("/")).parents]
        if not controllers:
            yield from (cgroup / folder / "memory.max" for folder in folders)
        elif "memory" in controllers.split(","):
            yield from (version_1 / folder / "memory.limit_in_bytes" for folder in folders)


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


def raise_open_file_limit() -> None:
    """Allow this process as many open files as the system does: for its connections and their uploads."""
    import resource  # Windows does not have it

    hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))


def forbid_core_dumps() -> None:
    """Let no crash of this process, or of a process that it starts, write its memory: it holds patients' frames."""
    import resource  # Windows does not have it

    hard_limit = resource.getrlimit(resource.RLIMIT_CORE)[1]
    limit = hard_limit if hard_limit == 0 else NO_CORE_BYTES
    resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))


def return_freed_memory() -> None:
    """Let this process give blocks of 4 MiB and more back to the system as soon as they are free.

    By default glibc keeps freed blocks of up to 32 MiB: after a large frame, every thread would hold on to some.
    """
    _set_malloc_options({M_MMAP_THRESHOLD: MIN_RETURNED_BYTES, M_TRIM_THRESHOLD: 2 * MIN_RETURNED_BYTES})


def keep_freed_memory() -> None:
    """Let this process keep up to 2 GiB of the memory that it frees, and use it again: for trainings.

    By default glibc gives large blocks back to the system at once. Each training step then takes them anew, and the
    kernel has to clear every page. With one arena, all threads use the same free memory. The padding protects it:
    TensorFlow's generator data sets set M_TRIM_THRESHOLD to 128 KiB (tensorflow 2.21, generator_dataset_op.cc).
    """
    _set_malloc_options({M_ARENA_MAX: 1, M_MMAP_MAX: 0, M_TOP_PAD: KEPT_BYTES})


def _set_malloc_options(values: dict[int, int]) -> None:
    """Set options of glibc's malloc; other C libraries have none."""
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        for option, value in values.items():
            mallopt(option, value)


def trim_memory() -> None:
    """Give free memory back to the system; glibc keeps it otherwise. Other C libraries have no such function."""
    gc.collect()  # closed connections are reference cycles; Python would keep them until there are many new objects
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)
