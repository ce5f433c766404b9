"""What this process really has: cores and memory, as a container's limits leave them."""

import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")  # a container's own
WORKERS = 2  # on a CPU: one answers while the other is replaced; of a GPU all would see the same one, so there is one


def cores() -> int:
    """CPU cores that this process really has: its affinity, and a container's quota."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = (CGROUP / "cpu.max").read_text().split()
        return max(1, min(allowed, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no cgroup, or "max"
        return allowed


def memory(cgroup: Path = CGROUP) -> int:
    """Bytes of memory that this process and its like may take together: the machine's, or a container's limit."""
    least = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("memory.max", "memory/memory.limit_in_bytes"):  # of cgroup's version 2 and 1
        try:
            least = min(least, int((cgroup / limit).read_text()))
        except (OSError, ValueError):  # none, or "max"
            continue
    return least
