"""Sum up the refusals of requests without a valid API key: one audit line for each client, not for each request.

Anybody can send such requests. With a line each, they would fill the disk, or make the log rotate away.
"""

import threading
import time
from collections import Counter
from datetime import UTC, datetime

from service.monitoring import audit_log
from service.request_state import client_network

INTERVAL_SECONDS = 60.0
MAX_CLIENTS = 256  # of one worker and interval; the others are summed up as OTHERS
OTHERS = "others"


class RefusalSummary:
    """Counts by client and HTTP status since the last lines. Thread-safe."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._restart()

    def _restart(self) -> None:
        self.counts: dict[str, Counter[int]] = {}
        self.since = datetime.now(UTC)
        self.next_lines_seconds = time.monotonic() + INTERVAL_SECONDS

    def add(self, client_address: str | None, status: int) -> None:
        """Count a refused request. status: of its response; 0 if the connection ended before."""
        client = client_network(client_address or "")
        with self.lock:
            if client not in self.counts and len(self.counts) >= MAX_CLIENTS:
                client = OTHERS
            self.counts.setdefault(client, Counter())[status] += 1

    def write_if_due(self) -> None:
        """Write the lines once in INTERVAL_SECONDS."""
        if time.monotonic() >= self.next_lines_seconds:
            self.write()

    def write(self) -> None:
        """Write a line for each client, and start again."""
        with self.lock:
            counts, since = self.counts, self.since.isoformat(timespec="milliseconds")
            self._restart()
        for client, statuses in counts.items():
            line = {"event": "refused_without_key", "client": client, "since": since, "statuses": dict(statuses)}
            audit_log.write_or_log(line)


REFUSALS = RefusalSummary()
