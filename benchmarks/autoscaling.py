"""A simulated day of traffic for Kubernetes' horizontal autoscaler, with this project's signal and settings."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from service.api.request_queue_timeout import MAX_QUEUE_SECONDS

MANIFEST = Path("deploy/kubernetes/base/hpa.yaml")
SYNC_SECONDS = 15  # of the controller, kube-controller-manager's default
TOLERANCE = 0.1
SCHEDULING_SECONDS = 10  # until a new pod's container starts, its image being on the node
SLOT_SECONDS = 0.02
LATE_MS = 100
# Share of the day's highest rate, by hour: quiet nights, lists in the morning and in the afternoon.
HOURS = (5, 3, 3, 3, 5, 10, 25, 60, 90, 100, 95, 80, 55, 70, 90, 85, 70, 45, 30, 20, 15, 12, 10, 8)
BURST_HOUR, BURST_SECONDS, BURST_SHARE = 20, 600, 70  # somebody exports an archive in the evening


@dataclass(frozen=True)
class Autoscaler:
    """The settings of a HorizontalPodAutoscaler. target: running plus queued requests of a pod."""

    target: float
    min_pods: int
    max_pods: int
    stabilization_seconds: int

    @staticmethod
    def of_manifest(target: float) -> "Autoscaler":
        """Return the settings of MANIFEST with another target."""
        spec = yaml.safe_load(MANIFEST.read_text())["spec"]
        return Autoscaler(
            target=target,
            min_pods=spec["minReplicas"],
            max_pods=spec["maxReplicas"],
            stabilization_seconds=spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"],
        )

    def wanted_pods(self, requests: float, ready: int, starting: int) -> int:
        """Return the pods that the metric asks for, by Kubernetes' rule.

        A pod without a metric counts as one without requests when the autoscaler would add pods, and as one at the
        target when it would take pods away.

        requests: running or queued in the ready pods.
        """
        counted, ratio = ready, requests / ready / self.target
        if starting and ratio > 1:
            counted = ready + starting
            ratio = max(1.0, requests / counted / self.target)
        elif starting:
            counted = ready + starting
            ratio = min(1.0, (requests / self.target + starting) / counted)
        if abs(ratio - 1) <= TOLERANCE:
            return ready + starting
        return min(max(math.ceil(ratio * counted), self.min_pods), self.max_pods)


@dataclass(frozen=True)
class MeasuredPod:
    """A pod as it was measured.

    highest_per_second: frames. ready_seconds: from its container's start until it is ready.
    loads: shares of the highest rate, ascending. signals: running plus queued requests at these loads.
    """

    highest_per_second: float
    ready_seconds: float
    loads: Sequence[float]
    signals: Sequence[float]

    def requests(self, load: float) -> float:
        """Return the mean of running plus queued requests at a load; above the measured ones, that of the highest."""
        return float(np.interp(load, [0.0, *self.loads], [0.0, *self.signals]))


def frames_per_second(hour: float, highest: float) -> float:
    """Return the day's rate at an hour, 0..24."""
    share = float(np.interp(hour, range(len(HOURS) + 1), [*HOURS, HOURS[0]]))
    if 0 <= (hour - BURST_HOUR) * 3600 < BURST_SECONDS:
        share += BURST_SHARE
    return highest * share / 100


@dataclass
class Pods:
    """The pods of a deployment. starting: the times at which pods become ready, ascending."""

    ready: int
    starting: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        return self.ready + len(self.starting)

    def become_ready(self, now: float) -> None:
        self.ready += sum(time <= now for time in self.starting)
        self.starting = [time for time in self.starting if time > now]

    def scale(self, goal: int, ready_at: float) -> None:
        """Start pods, or end pods: first those that are not ready."""
        self.starting += [ready_at] * (goal - len(self))
        while len(self) > goal and self.starting:
            self.starting.pop()
        self.ready = min(self.ready, goal)


def simulate_day(pod: MeasuredPod, autoscaler: Autoscaler, highest: float, hours: int = 24) -> dict[str, Any]:
    """Return what a day with this autoscaler costs, and how long its frames wait; seeded.

    Arrivals are a Poisson process. In a slot of SLOT_SECONDS the ready pods work off what has arrived, as one queue.
    The signal is the measured one for the load of the pods, and what waits; its values vary as a Poisson number.
    The service refuses what would wait longer than MAX_QUEUE_SECONDS. Scraping and the adapter take no time.

    highest: frames per second at the busiest hour.
    """
    rng = np.random.default_rng(1)
    pods, pod_seconds, most, changes, queue, refused = Pods(autoscaler.min_pods), 0.0, 0, 0, 0.0, 0.0
    wanted = deque[int](maxlen=1 + autoscaler.stabilization_seconds // SYNC_SECONDS)
    waits, counts = [], []
    for now in range(0, hours * 3600, SYNC_SECONDS):
        pods.become_ready(now)
        rate, capacity = frames_per_second(now / 3600, highest), pods.ready * pod.highest_per_second
        arrivals = rng.poisson(rate * SLOT_SECONDS, round(SYNC_SECONDS / SLOT_SECONDS))
        queues = _queues(queue, arrivals, capacity * SLOT_SECONDS)
        queue = min(float(queues[-1]), capacity * MAX_QUEUE_SECONDS)
        refused += float(queues[-1]) - queue
        signal = float(rng.poisson(pods.ready * pod.requests(rate / capacity) + queue))
        wanted.append(autoscaler.wanted_pods(signal, pods.ready, len(pods.starting)))
        waits.append(1000 * np.minimum(queues / capacity, MAX_QUEUE_SECONDS))
        counts.append(arrivals)
        most, pod_seconds = max(most, len(pods)), pod_seconds + len(pods) * SYNC_SECONDS
        goal = next_pods(len(pods), wanted)
        changes += goal != len(pods)
        pods.scale(goal, now + SYNC_SECONDS + SCHEDULING_SECONDS + pod.ready_seconds)
    return _summary(np.concatenate(waits), np.concatenate(counts)) | {
        "refused_share": round(refused / float(np.sum(counts)), 5),
        "pod_hours": round(pod_seconds / 3600, 1),
        "most_pods": most,
        "changes": changes,
        "highest_per_second": round(highest),
    }


def next_pods(pods: int, wanted: Sequence[int]) -> int:
    """Return the number of pods after one step of the autoscaler, with Kubernetes' default policies.

    A step adds at most 4 pods or doubles them. It takes pods away only if no step of the window wanted to keep them.

    wanted: of each step of the stabilization window, the last one last.
    """
    if wanted[-1] > pods:
        return min(wanted[-1], max(pods + 4, pods * 2))
    return min(pods, max(wanted))


def _queues(queue: float, arrivals: np.ndarray, served: float) -> np.ndarray:
    """Return the waiting frames at the end of each slot (Lindley's recursion, solved).

    queue: waiting before the first slot. served: in a slot at most.
    """
    unbounded = queue + np.cumsum(arrivals - served)
    return unbounded - np.minimum(np.minimum.accumulate(unbounded), 0.0)


def _summary(waits: np.ndarray, counts: np.ndarray) -> dict[str, Any]:
    """Return percentiles of the wait over frames. waits, ms, and counts of frames: of each slot."""
    order = np.argsort(waits)
    share = np.cumsum(counts[order]) / counts.sum()
    return {
        "p99_waiting_ms": round(float(waits[order][np.searchsorted(share, 0.99)]), 1),
        "longest_waiting_seconds": round(float(waits.max()) / 1000, 1),
        "late_share": round(float(counts[waits > LATE_MS].sum() / counts.sum()), 5),
    }
