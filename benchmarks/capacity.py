"""One pod measured, and how many frames per second a number of pods answers.

`python -m benchmarks.capacity`. It measures one service on all cores of this machine: its highest rate, its waits and
its autoscaler's signal under Poisson arrivals, and what a frame costs a load balancer, the network and the audit log.
From these a formula gives the pods for a rate, and a simulation checks it. Then a day of traffic is simulated for the
autoscaler.
"""

import math
import shutil
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.autoscaling import Autoscaler, MeasuredPod, simulate_day
from benchmarks.capacity_report import to_markdown
from benchmarks.compared_servers import NERVEMASK, RunningServer, run_server
from benchmarks.load_generator import Load, LoadResult, encode_request, run
from benchmarks.process_monitor import repeated
from benchmarks.queueing import BALANCERS, Pod, simulated_waiting_ms, waiting_ms
from benchmarks.report import record
from benchmarks.sample_uploads import SampleUploads, make_sample_uploads
from service.resources.container_limits import cpu_cores

__all__ = ["TITLE", "measure", "to_markdown"]

TITLE = "Capacity: from one pod to 10,000 frames per second"
SECONDS = 15.0
CAPACITY_CONNECTIONS = 8
LOADS = (0.2, 0.4, 0.6, 0.8, 0.9)  # shares of the highest rate
READING_SECONDS = 0.2  # between two readings of the signal
RATES = (10, 30, 100, 300, 1_000, 3_000, 10_000)
MAX_UTILISATION = 0.6  # above it, the measured times grow fast
MAX_WAITING_MS = 20.0
SIMULATED_FRAMES = 20_000
TARGETS_PER_CORE = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
DAY_HOURS = 24
DAY_LOAD = 0.7  # of all pods that the autoscaler may start, in the busiest hour
BALANCER_CONFIGURATION = Path("deploy/haproxy/load_balancer.cfg")
SIGNAL = ("nervemask_requests_running", "nervemask_requests_queued")


def measure() -> dict[str, Any]:
    uploads = make_sample_uploads()[0]
    with tempfile.TemporaryDirectory() as folder:
        audit = Path(folder) / "audit"
        with run_server(NERVEMASK, NERVEMASK_AUDIT=str(audit)) as server:
            _run(server.port, uploads, 3.0)  # warm-up
            alone = _run(server.port, uploads, SECONDS)
            highest = _run(server.port, uploads, SECONDS, connections=CAPACITY_CONNECTIONS)
            pod = _pod(alone, highest)
            loads = [_measure_load(server, uploads, pod, load) for load in LOADS]
            content_type = {"content-type": uploads.content_type}
            mask = httpx.post(f"{server.url}/mask", content=uploads.files[0], headers=content_type).content
            balancer_ms = _measure_balancer(server, uploads, pod.frames_per_second / 2, Path(folder))
        audit_bytes = statistics.fmean(map(len, audit.read_bytes().splitlines(keepends=True)))
    signals = [row["signal"] for row in loads]
    measured = MeasuredPod(pod.frames_per_second, server.ready_seconds, LOADS, signals)
    frame = {
        "upload": uploads.name,
        "upload_bytes": round(statistics.fmean(map(len, uploads.files))),
        "mask_bytes": len(mask),
        "audit_bytes": round(audit_bytes),
        "balancer_ms": balancer_ms,
    }
    return {
        "frame": frame,
        "pod": {
            "cores": pod.cores,
            "highest_per_second": round(pod.frames_per_second, 1),
            "alone_median_ms": round(alone.percentile(50), 1),
            "ready_seconds": round(server.ready_seconds, 1),
        },
        "loads": loads,
        "rates": [_pods_for(pod, rate) for rate in RATES],
        "limits": _limits(pod, frame),
        "day": _simulate_days(measured, pod.cores),
    }


def _run(port: int, uploads: SampleUploads, seconds: float, connections: int = 1, **options: Any) -> LoadResult:
    """Send frames; return the responses. The rates and times are of all of them, so each must be a mask."""
    requests = [encode_request("/mask", uploads.content_type, file) for file in uploads.files]
    result = run(Load(port, requests, connections, seconds, **options))
    if refused := result.statuses.total() - result.statuses["200"]:
        sys.exit(f"capacity: {refused} of {result.statuses.total()} requests got no mask: is the machine busy?")
    return result


def _pod(alone: LoadResult, highest: LoadResult) -> Pod:
    """Return a pod whose times vary as those of a client alone, with the mean that its highest rate shows."""
    times = np.array(alone.milliseconds)
    return Pod(cpu_cores(), times / times.mean() * cpu_cores() * 1000 / highest.per_second)


def _measure_load(server: RunningServer, uploads: SampleUploads, pod: Pod, load: float) -> dict[str, float]:
    """Measure the wait and the autoscaler's signal at a share of the highest rate, with Poisson arrivals.

    By Little's law (1961) the mean number of requests in the service is their rate times their mean time there.
    """
    with repeated(lambda: _signal(server), READING_SECONDS) as signal:
        result = _run(server.port, uploads, SECONDS, rate=load * pod.frames_per_second, poisson=True)
    return {
        "load": load,
        "per_second": round(result.per_second, 1),
        "median_ms": round(result.percentile(50), 1),
        "p99_ms": round(result.percentile(99), 1),
        "formula_waiting_p99_ms": round(waiting_ms(pod, 1, load * pod.frames_per_second), 1),
        "signal": round(statistics.fmean(signal), 2),
        "rate_times_mean_seconds": round(result.per_second * statistics.fmean(result.milliseconds) / 1000, 2),
    }


def _signal(server: RunningServer) -> float:
    """Return running plus queued requests."""
    metrics = server.metrics()
    return sum(metrics[name, frozenset()] for name in SIGNAL)


def _measure_balancer(server: RunningServer, uploads: SampleUploads, rate: float, folder: Path) -> float | None:
    """Return the milliseconds of processor time that HAProxy needs for a frame; None where it is not installed."""
    haproxy = shutil.which("haproxy")
    if haproxy is None:
        return None
    services = {f"SERVICE_{number}": f"127.0.0.1:{server.port}" for number in (1, 2, 3)}

    def command(port: int) -> list[str]:
        return ["env", f"LISTEN=127.0.0.1:{port}", haproxy, "-f", str(BALANCER_CONFIGURATION)]

    peer = replace(NERVEMASK, name="HAProxy", command=command)
    with run_server(peer, ADMIN_SOCKET=str(folder / "haproxy.sock"), **services) as balancer:
        before = balancer.process.cpu_times()
        result = _run(balancer.port, uploads, SECONDS, rate=rate)
        after = balancer.process.cpu_times()
    seconds = after.user + after.system - before.user - before.system
    return round(1000 * seconds / len(result.milliseconds), 3)


def _pods_for(pod: Pod, rate: float) -> dict[str, Any]:
    """Return the pods for a rate: the fewest that keep MAX_UTILISATION and MAX_WAITING_MS by the formula."""
    pods = math.ceil(rate / (MAX_UTILISATION * pod.frames_per_second))
    while waiting_ms(pod, pods, rate) > MAX_WAITING_MS:
        pods += 1
    return {
        "frames_per_second": rate,
        "pods": pods,
        "utilisation": round(rate / (pods * pod.frames_per_second), 2),
        "formula_ms": round(waiting_ms(pod, pods, rate), 1),
        "simulated_ms": {
            balancer: round(simulated_waiting_ms(pod, pods, rate, SIMULATED_FRAMES, balancer), 1)
            for balancer in BALANCERS
        },
    }


def _limits(pod: Pod, frame: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the frames per second at which each part is full, the lowest first."""
    most_pods = Autoscaler.of_manifest(1.0).max_pods
    limits = {
        f"one pod of {pod.cores} cores": pod.frames_per_second,
        f"the autoscaler's {most_pods} pods (`maxReplicas`), each of {pod.cores} cores": most_pods
        * pod.frames_per_second,
        "a network of 1 Gbit/s": 1e9 / 8 / (frame["upload_bytes"] + frame["mask_bytes"]),
        "a network of 10 Gbit/s": 1e10 / 8 / (frame["upload_bytes"] + frame["mask_bytes"]),
        "an audit disk of 1 TB, full after 90 days": 1e12 / (90 * 86_400) / frame["audit_bytes"],
    }
    if frame["balancer_ms"]:
        limits["HAProxy on one core, without TLS"] = 1000 / frame["balancer_ms"]
    return [{"part": part, "frames_per_second": round(limits[part])} for part in sorted(limits, key=limits.__getitem__)]


def _simulate_days(pod: MeasuredPod, cores: int) -> list[dict[str, Any]]:
    """Return a row for each target of the autoscaler, and one without an autoscaler."""
    scalers = {str(target): Autoscaler.of_manifest(target * cores) for target in TARGETS_PER_CORE}
    most_pods = Autoscaler.of_manifest(1.0).max_pods
    scalers["none"] = replace(Autoscaler.of_manifest(1.0), min_pods=most_pods)
    highest = DAY_LOAD * most_pods * pod.highest_per_second
    return [
        {"target_per_core": name} | simulate_day(pod, scaler, highest, DAY_HOURS) for name, scaler in scalers.items()
    ]


def main() -> None:
    record("capacity", measure, "capacity")


if __name__ == "__main__":
    main()
