"""Clients that send more requests than they may. They leave three quarters of the time to others who are active.

Turns alone would not do: a worker has a slot for each core, so a greedy client in one worker would take the cores from
another client in another worker.
"""

import math
from collections.abc import Callable

from service.api.worker_table import WorkerTable

GREEDY_SECONDS = 5.0  # after its last refusal a client still counts as greedy
ACTIVE_SECONDS = 2.0  # after its last request a client still counts as active
PAUSE_FACTOR = 3.0  # times as long as the request of a greedy client ran
MAX_PAUSE_SECONDS = 4.0


class GreedyClients:
    """The greedy clients of one worker, and the pauses between their requests.

    clock: seconds of CLOCK_MONOTONIC, which all processes share.
    table, number: shared with the other workers, and the number of this one: there a worker says until when its clients
        are active. A client may be greedy in one worker and not in another, so the table says which client it is.
    """

    def __init__(self, clock: Callable[[], float]):
        self.clock = clock
        self.table = WorkerTable.of_one_process()
        self.number = 1
        self.greedy_until: dict[str, float] = {}
        self.paused_until: dict[str, float] = {}

    def join(self, table: WorkerTable, number: int) -> None:
        """Share what is active with the other workers."""
        self.table, self.number = table, number

    def record_refusal(self, client: str) -> None:
        """Remember that a client sent more requests than it may."""
        self.greedy_until[client] = self.clock() + GREEDY_SECONDS

    def record_active(self, client: str) -> None:
        """Tell all workers that a client is active, unless it is greedy."""
        if not self.is_greedy(client):
            self.table.write_active(self.number, client, self.clock() + ACTIVE_SECONDS)

    def record_end(self, client: str, seconds: float) -> float:
        """Return the pause after a request of a client that ran for so many seconds; 0 if it need not yield."""
        if not self.must_yield(client):
            return 0.0
        pause = min(PAUSE_FACTOR * seconds, MAX_PAUSE_SECONDS)
        self.paused_until[client] = self.clock() + pause
        return pause

    def must_yield(self, client: str) -> bool:
        """Return whether a client is greedy while another one is active. Alone it may use everything."""
        return self.is_greedy(client) and self.table.others_active_until(client) > self.clock()

    def is_greedy(self, client: str) -> bool:
        """Return whether a client was refused a short time ago."""
        return self.greedy_until.get(client, -math.inf) > self.clock()

    def is_paused(self, client: str) -> bool:
        """Return whether a client has to wait."""
        return self.paused_until.get(client, -math.inf) > self.clock()

    def forget(self) -> None:
        """Forget what is over."""
        now = self.clock()
        self.greedy_until = {client: until for client, until in self.greedy_until.items() if until > now}
        self.paused_until = {client: until for client, until in self.paused_until.items() if until > now}
