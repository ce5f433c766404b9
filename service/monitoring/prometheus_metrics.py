"""Prometheus metrics. Each worker writes its own files; /metrics adds up those of all workers.

BentoML's own metrics are off: they keep a counter for every requested path, so clients could create any number of them.
"""

import os
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

SECONDS_BUCKETS = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.25, 2.5, 5, 10, 30, 120)
PROBABILITY_BUCKETS = tuple(tenths / 10 for tenths in range(1, 11))
PIXELS_BUCKETS = tuple(4**power for power in range(4, 13))

# prometheus_client adds `_total` to the name of a counter.
REQUESTS_TOTAL = Counter("nervemask_requests", "Responses by route and HTTP status", ["route", "status"])
REQUEST_DURATION_SECONDS = Histogram(
    "nervemask_request_duration_seconds",
    "Time from the head of a request to the end of its response",
    ["route"],
    buckets=SECONDS_BUCKETS,
)
STEP_DURATION_SECONDS = Histogram(
    "nervemask_step_duration_seconds",
    "Time per frame and step: decode, network, answer",
    ["step"],
    buckets=SECONDS_BUCKETS,
)
REQUESTS_RUNNING = Gauge("nervemask_requests_running", "Requests that are being computed", multiprocess_mode="livesum")
REQUESTS_QUEUED = Gauge("nervemask_requests_queued", "Requests that wait for a free core", multiprocess_mode="livesum")
ERRORS_TOTAL = Counter("nervemask_errors", "Errors by their code", ["code"])
WRONG_KEYS_TOTAL = Counter("nervemask_wrong_keys", "Requests with a wrong API key")
PROBLEM = Gauge(
    "nervemask_problem",
    "1 while /readyz names a problem of this kind: audit, keys, old_keys, model, old_model, worker, checks",
    ["kind"],
    multiprocess_mode="livemax",
)
SPOOL_REFUSED_TOTAL = Counter("nervemask_spool_refused", "Frames not kept for review: the scan area may hold a banner")
FRAMES_TOTAL = Counter(
    "nervemask_frames", "Segmented frames by whether they show a nerve; null: the service abstained", ["present"]
)
PRESENCE = Histogram("nervemask_presence", "Probability that a frame shows a nerve", buckets=PROBABILITY_BUCKETS)
CONFIDENCE = Histogram("nervemask_confidence", "Expected Dice of a mask", buckets=PROBABILITY_BUCKETS)
FRAME_PIXELS = Histogram("nervemask_frame_pixels", "Pixels of a frame", buckets=PIXELS_BUCKETS)
CERTIFICATE_EXPIRY = Gauge(
    "nervemask_certificate_expiry_timestamp_seconds",
    "End of the TLS certificate that is served, in seconds since 1970",
    ["file"],
    multiprocess_mode="livemin",
)
MODEL_INFO = Gauge(
    "nervemask_model_info",
    "1 for the deployed champion, 0 for an earlier one",
    ["name", "version", "run_id"],
    multiprocess_mode="livemax",
)
DRIFT = Gauge(
    "nervemask_drift",
    "Distance of recent frames from the training frames, in standard deviations (presence_rate: in log-odds)",
    ["feature"],
    multiprocess_mode="livemostrecent",
)


def render_metrics() -> bytes:
    """Return the metrics of all workers in Prometheus' text format."""
    registry = CollectorRegistry()
    folder = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
    for pid in {int(file.stem.rpartition("_")[2]) for file in folder.glob("gauge_live*.db")}:
        if not Path(f"/proc/{pid}").exists() and Path("/proc/self").exists():
            multiprocess.mark_process_dead(pid)  # else the gauges of a killed worker would stay
    multiprocess.MultiProcessCollector(registry)
    return generate_latest(registry)
