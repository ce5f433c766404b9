"""What glibc's malloc does with memory that this process frees."""

import ctypes
import gc

# Parameters of mallopt.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -3, -4, -8
KEPT_BYTES = 2**31 - 2**20  # free memory that a training keeps; mallopt takes no larger number
MIN_RETURNED_BYTES = 4 * 2**20


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
