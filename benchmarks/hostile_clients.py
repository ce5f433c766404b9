"""Attacks without an API key: no worker may end, and the service must stay available.

`python -m benchmarks.hostile_clients`. A server with API keys runs in a control group with a memory limit. After a
quiet time, CONNECTIONS connections attack it at once, in all ways of `benchmarks.hostile_connections`. Meanwhile, and
for RECOVERY_SECONDS afterwards, a client requests /livez ten times per second, each time on a new connection, as a
kubelet does.
"""

import argparse
import json
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import hostile_connections
from benchmarks.cgroup import ControlGroup, can_limit_memory, limit_memory, limited
from benchmarks.compared_servers import NERVEMASK, RunningServer, run_server
from benchmarks.hostile_connections import INPUTS, Attack
from benchmarks.process_monitor import ProcessMonitor
from benchmarks.report import record, table
from service.api.api_key_file import hash_key, write_key_hashes
from service.resources.container_limits import cpu_cores

TITLE = "Attacks without an API key"
CONNECTIONS = 1000
SECONDS, QUIET_SECONDS, RECOVERY_SECONDS = 180.0, 10.0, 60.0
CORES, MEMORY_BYTES = 2, 4 * 2**30
PROBE_INTERVAL_SECONDS, PROBE_TIMEOUT_SECONDS = 0.1, 10.0
SAMPLE_SECONDS = 0.5
MAX_P99_MILLISECONDS = 100.0
MAX_MEMORY_RATIO = 1.05
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"


@dataclass
class Probes:
    """The requests for /livez of one part of a run. failures: without a 200 response within the timeout."""

    milliseconds: list[float] = field(default_factory=list)
    failures: int = 0

    def run(self, port: int, seconds: float) -> "Probes":
        """Request /livez for a time. A failure counts as a response at the end of the timeout."""
        end = time.perf_counter() + seconds
        while (start := time.perf_counter()) < end:
            if succeeded := probe(port):
                self.milliseconds.append((time.perf_counter() - start) * 1000)
            else:
                self.milliseconds.append(PROBE_TIMEOUT_SECONDS * 1000)
            self.failures += not succeeded
            time.sleep(max(0.0, start + PROBE_INTERVAL_SECONDS - time.perf_counter()))
        return self

    def figures(self, part: str) -> dict[str, Any]:
        """Return the number of requests and failures, and percentiles of the latency."""
        median, p99 = np.percentile(self.milliseconds, [50, 99]).round(1)
        return {
            "part": part,
            "requests": len(self.milliseconds),
            "failures": self.failures,
            "median_milliseconds": float(median),
            "p99_milliseconds": float(p99),
            "longest_milliseconds": round(max(self.milliseconds), 1),
        }


def probe(port: int) -> bool:
    """Return whether /livez responds with 200 on a new connection."""
    try:
        with socket.create_connection(("127.0.0.1", port), PROBE_TIMEOUT_SECONDS) as connection:
            connection.sendall(LIVEZ)
            return connection.recv(4096).startswith(b"HTTP/1.1 200 ")
    except OSError:
        return False


def attack(
    server: RunningServer, monitor: ProcessMonitor, seconds: float, connections: int, recovery_seconds: float
) -> dict[str, Any]:
    """Attack a server that requires a key; return the figures."""
    before = Probes().run(server.port, QUIET_SECONDS)
    memory_before = monitor.samples[-1].total_mib
    process = hostile_connections.start(Attack(server.port, list(INPUTS), connections, seconds))
    during = Probes().run(server.port, seconds)
    opened = json.loads(process.communicate()[0])
    memory_peak = max(sample.total_mib for sample in monitor.samples)
    after = Probes().run(server.port, recovery_seconds)
    memory_after = monitor.samples[-1].total_mib
    parts = {"before": before, "during": during, "after": after}
    return {
        "seconds": seconds,
        "connections": connections,
        "opened_connections": opened,
        "livez": [probes.figures(part) for part, probes in parts.items()],
        "memory_before_mib": round(memory_before),
        "memory_peak_mib": round(memory_peak),
        "memory_after_mib": round(memory_after),
        "recovery_seconds": recovery_seconds,
        "lost_workers": monitor.lost_workers(),
    }


@contextmanager
def server_with_keys(folder: Path, group: ControlGroup | None) -> Iterator[RunningServer]:
    """Run a server that requires a key. folder: of its keys and its audit log."""
    write_key_hashes(folder / "keys.txt", {"known": hash_key("nobody has this key")})
    environment = {"NERVEMASK_KEYS": str(folder / "keys.txt"), "NERVEMASK_AUDIT": str(folder / "audit.jsonl")}
    peer = NERVEMASK
    if group:
        peer, group_environment = limited(peer, group, min(CORES, cpu_cores()), folder)
        environment |= group_environment
    with run_server(peer, **environment) as server:
        time.sleep(QUIET_SECONDS)  # the server is ready when its first worker is
        yield server


def measure(seconds: float = SECONDS, connections: int = CONNECTIONS) -> dict[str, Any]:
    """Return the figures of an attack, in a control group where this process may make one."""
    with tempfile.TemporaryDirectory() as name:
        if not can_limit_memory():
            return _measure(seconds, connections, Path(name), None) | {"memory_limit_gib": None}
        with limit_memory(MEMORY_BYTES) as group:
            figures = _measure(seconds, connections, Path(name), group)
            killed = group.killed_processes()
    return figures | {"memory_limit_gib": MEMORY_BYTES // 2**30, "killed_processes": killed}


def _measure(seconds: float, connections: int, folder: Path, group: ControlGroup | None) -> dict[str, Any]:
    with server_with_keys(folder, group) as server, ProcessMonitor(server.process.pid, SAMPLE_SECONDS) as monitor:
        figures = attack(server, monitor, seconds, connections, RECOVERY_SECONDS)
    audit_lines = (folder / "audit.jsonl").read_bytes().count(b"\n") if (folder / "audit.jsonl").exists() else 0
    return figures | {"audit_lines": audit_lines}


def violated_limits(figures: dict[str, Any]) -> list[str]:
    """Return a message for each violated limit."""
    (p99,) = (row["p99_milliseconds"] for row in figures["livez"] if row["part"] == "during")
    return [*violated_availability(figures), *[f"/livez: p99 {p99} ms"] * (p99 > MAX_P99_MILLISECONDS)]


def violated_availability(figures: dict[str, Any]) -> list[str]:
    """Return a message for each violated limit that does not depend on the machine's speed."""
    ratio = round(figures["memory_after_mib"] / figures["memory_before_mib"], 3)
    limits = {
        f"{figures['lost_workers']} workers ended": not figures["lost_workers"],
        f"{figures.get('killed_processes')} processes were ended by the memory limit": not figures.get(
            "killed_processes"
        ),
        f"the memory is {ratio} times what it was": ratio <= MAX_MEMORY_RATIO,
    }
    return [message for message, met in limits.items() if not met]


def to_markdown(figures: dict[str, Any]) -> str:
    """Return the text."""
    limit = figures["memory_limit_gib"]
    opened = ", ".join(f"{kind}: {count}" for kind, count in figures["opened_connections"].items())
    lines = [
        f"{figures['connections']} connections for {figures['seconds']:.0f} seconds, "
        + (
            f"with a memory limit of {limit} GiB."
            if limit
            else "without a memory limit: no control group could be made."
        ),
        "The clients run on the cores of the server, with a lower priority.",
        f"Connections opened: {opened}.",
        f"Resident memory of all processes, MiB: {figures['memory_before_mib']} before, "
        f"{figures['memory_peak_mib']} at most, {figures['memory_after_mib']} after "
        f"{figures['recovery_seconds']:.0f} seconds of quiet.",
        f"Workers ended: {figures['lost_workers']}. Lines in the audit log: {figures['audit_lines']}.",
        "Violated limits: " + ("; ".join(violated_limits(figures)) or "none") + ".",
    ]
    rows = [{"livez" if name == "part" else name: value for name, value in row.items()} for row in figures["livez"]]
    return "\n".join(lines) + f"\n\n{table(rows)}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hostile_clients", description=TITLE)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="duration of the attack (%(default)s)")
    parser.add_argument("--connections", type=int, default=CONNECTIONS, help="hostile connections (%(default)s)")
    arguments = parser.parse_args()
    figures = record(
        "hostile_clients", lambda: measure(arguments.seconds, arguments.connections), report="hostile_clients"
    )
    sys.exit("; ".join(violated_limits(figures)) or 0)


if __name__ == "__main__":
    main()
