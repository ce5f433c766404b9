"""Run a server with a number of CPU cores and a memory limit, as a container does."""

import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.compared_servers import Peer

CGROUP = Path("/sys/fs/cgroup")
VERSION_1, VERSION_2 = CGROUP / "memory", CGROUP
# More cores than the machine has: the service then runs as many threads and decoder processes, but no faster.
PRETEND_CORES = "import os\nos.sched_getaffinity = lambda _=0: set(range({}))\n"


@dataclass(frozen=True)
class ControlGroup:
    """A control group with a memory limit. folder: of the group. is_version_1: of cgroup version 1, not 2."""

    folder: Path
    is_version_1: bool

    def peak_bytes(self) -> int:
        """Return the most memory that its processes took together, with their file cache."""
        return int((self.folder / ("memory.max_usage_in_bytes" if self.is_version_1 else "memory.peak")).read_text())

    def killed_processes(self) -> int:
        """Return how many processes the memory limit ended."""
        events = (self.folder / ("memory.oom_control" if self.is_version_1 else "memory.events")).read_text()
        return int(dict(line.split() for line in events.splitlines())["oom_kill"])


def can_limit_memory() -> bool:
    """Return whether this process may make control groups with a memory limit."""
    try:
        with limit_memory(2**30):
            return True
    except OSError:
        return False


@contextmanager
def limit_memory(memory_bytes: int) -> Iterator[ControlGroup]:
    """Make a control group. Raises OSError where this process may not."""
    is_version_1 = (VERSION_1 / "memory.limit_in_bytes").exists()
    folder = (VERSION_1 if is_version_1 else VERSION_2) / f"nervemask-{os.getpid()}"
    folder.mkdir()
    try:
        limit_file = folder / ("memory.limit_in_bytes" if is_version_1 else "memory.max")
        limit_file.write_text(str(memory_bytes))
        yield ControlGroup(folder, is_version_1)
    finally:
        folder.rmdir()


def limited(peer: Peer, group: ControlGroup, cores: int, folder: Path) -> tuple[Peer, dict[str, str]]:
    """Return a peer that runs in the group on these cores, and its environment. folder: for files of the run."""
    available = sorted(os.sched_getaffinity(0))
    environment = {}
    prefix = ""
    if cores <= len(available):
        prefix = f"taskset -c {','.join(map(str, available[:cores]))} "
    else:
        (folder / "sitecustomize.py").write_text(PRETEND_CORES.format(cores))
        environment = {"PYTHONPATH": str(folder)}
    return replace(peer, command=_in_group(peer.command, group, prefix)), environment


def _in_group(command: Callable[[int], list[str]], group: ControlGroup, prefix: str) -> Callable[[int], list[str]]:
    def command_in_group(port: int) -> list[str]:
        script = f"echo $$ > {group.folder}/cgroup.procs && exec {prefix}{shlex.join(command(port))}"
        return ["sh", "-c", script]

    return command_in_group
