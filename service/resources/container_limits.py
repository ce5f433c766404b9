"""The CPU cores and the memory that this process may use: of the machine, or of its container or systemd service."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

CGROUP = Path("/sys/fs/cgroup")  # inside a container: the container's own control group
OWN_CGROUPS = Path("/proc/self/cgroup")


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
