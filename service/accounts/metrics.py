"""What Prometheus is told. Each worker counts in files of its own; whoever is asked adds them all up.

BentoML's own metrics are off: they keep a counter for every path that is asked for, of which there is no end.
"""

import os
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

SECONDS = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.25, 2.5, 5, 10, 30, 120)
TENTHS = tuple(tenth / 10 for tenth in range(1, 11))

REQUESTS = Counter("nervemask_requests", "Answers by route and status", ["route", "status"])
REQUEST_SECONDS = Histogram(
    "nervemask_request_seconds", "From a request's head to its answer's end", ["route"], buckets=SECONDS
)
STEP_SECONDS = Histogram("nervemask_step_seconds", "Of one frame: decode, network, answer", ["step"], buckets=SECONDS)
UNDER_WAY = Gauge("nervemask_under_way", "Requests whose turn it is", multiprocess_mode="livesum")
WAITING = Gauge("nervemask_waiting", "Requests that wait for their turn", multiprocess_mode="livesum")
REFUSED = Counter("nervemask_refused", "Errors that were answered, by their code", ["code"])
KEY_FAILURES = Counter("nervemask_key_failures", "Requests with a wrong key")
FRAMES = Counter("nervemask_frames", "Frames that were looked at", ["present"])
PRESENCE = Histogram("nervemask_presence", "Probability of a nerve", buckets=TENTHS)
CONFIDENCE = Histogram("nervemask_confidence", "Dice that a mask is likely to reach", buckets=TENTHS)
FRAME_PIXELS = Histogram("nervemask_frame_pixels", "Pixels of a frame", buckets=[4**power for power in range(4, 13)])
MODEL_INFO = Gauge(
    "nervemask_model_info",
    "1: the champion that is served; 0: one before it",
    ["name", "version", "run_id"],
    multiprocess_mode="livemax",
)
DRIFT = Gauge(
    "nervemask_drift",
    "Distance from what the champion was trained on, in deviations of its card",
    ["of"],
    multiprocess_mode="livemostrecent",
)


def exposition() -> bytes:
    """The metrics of all workers, in Prometheus' text format."""
    registry = CollectorRegistry()
    folder = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
    for pid in {int(file.stem.rpartition("_")[2]) for file in folder.glob("gauge_live*.db")}:
        if not Path(f"/proc/{pid}").exists() and Path("/proc/self").exists():
            multiprocess.mark_process_dead(pid)  # a worker that was killed is not under way
    multiprocess.MultiProcessCollector(registry)
    return generate_latest(registry)
