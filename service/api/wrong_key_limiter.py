"""Slow down clients that send wrong API keys."""

import time
from collections.abc import Callable

from service.api.client_backoff import ClientBackoff
from service.request_state import client_network

MAX_FREE_WRONG_KEYS = 5  # of one client, before the service refuses it for some time
FIRST_RETRY_AFTER_SECONDS = 2
MAX_RETRY_AFTER_SECONDS = 60
MAX_WRONG_KEYS_PER_SECOND = 100  # of all clients of a worker; then everybody with a wrong key waits


class WrongKeyLimiter:
    """Counts wrong keys by client. It never delays a valid key: many clients may share an address."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self.clock = clock
        self.backoff = ClientBackoff(MAX_FREE_WRONG_KEYS, FIRST_RETRY_AFTER_SECONDS, MAX_RETRY_AFTER_SECONDS, clock)
        self.second = 0
        self.count_of_second = 0

    @property
    def is_flooded(self) -> bool:
        """Return whether there were too many wrong keys in this second, perhaps from many addresses."""
        return self.count_of_second > MAX_WRONG_KEYS_PER_SECOND

    def record(self, client_address: str) -> float:
        """Count a wrong key; return the seconds until the client may try again, 0 for its first wrong keys."""
        second = int(self.clock())
        if self.second != second:
            self.second, self.count_of_second = second, 0
        self.count_of_second += 1
        return self.backoff.record(client_network(client_address))
