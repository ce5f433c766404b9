"""The number of worker processes of the service, and of their decoder processes."""

import os
import sys

from service.resources.container_limits import cpu_cores, memory_bytes
from service.resources.gpu_detection import has_gpu

MIN_WORKERS = 2  # one answers while the other is replaced
# One Python process cannot feed a fast GPU. Each takes about half a GiB of the GPU's memory for its CUDA context.
MAX_GPU_WORKERS, CORES_PER_GPU_WORKER, BYTES_PER_GPU_WORKER = 6, 2, 3 * 2**30
WORKERS_VARIABLE, MAX_WORKERS = "NERVEMASK_WORKERS", 64


def worker_count() -> int:
    """Return the number of worker processes of the service: more than two only with a GPU that needs them.

    NERVEMASK_WORKERS sets another number. Ends the program if it is not a number from 1 to MAX_WORKERS: every command
    of the service reads it.
    """
    if chosen := os.environ.get(WORKERS_VARIABLE):
        if not (chosen.isdecimal() and 1 <= int(chosen) <= MAX_WORKERS):
            sys.exit(f"nervemask: {WORKERS_VARIABLE} is {chosen[:20]!r}: set it to a number from 1 to {MAX_WORKERS}.")
        return int(chosen)
    if not has_gpu():
        return MIN_WORKERS
    most = min(cpu_cores() // CORES_PER_GPU_WORKER, memory_bytes() // BYTES_PER_GPU_WORKER, MAX_GPU_WORKERS)
    return max(MIN_WORKERS, most)


def decoder_count(cores: int, workers: int) -> int:
    """Return the number of decoder processes of one worker. All workers together have two for each core."""
    return min(cores, -(-2 * cores // workers))
