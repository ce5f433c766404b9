"""Limit how many requests run at the same time; the others wait, and their clients take turns."""

import asyncio
import math
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.api.greedy_clients import ACTIVE_SECONDS, GreedyClients
from service.errors import too_many_error
from service.monitoring.prometheus_metrics import REQUESTS_QUEUED, REQUESTS_RUNNING
from service.resources.container_limits import cpu_cores
from service.resources.worker_count import worker_count
from service.resources.worker_memory import SharedLimit

CLOCK_SECONDS = 0.001  # an event loop may call a function so much too early
MAX_RUNNING_OR_QUEUED = 64  # requests of one client in one worker that wait for a slot or hold one
MAX_CLIENTS = 16  # that can have so many; with more, each has fewer


def _loop_seconds() -> float:
    """Return the time of the event loop, in seconds of CLOCK_MONOTONIC."""
    return asyncio.get_running_loop().time()


class FairConcurrencyLimiter:
    """Slots for running requests. Turns go round by client, so a client with many requests delays no other.

    A client alone gets all slots. While several clients are active they share them; a greedy client then gets one
    worker's part of the cores, and pauses between its requests (`greedy_clients`). A client that holds no slot gets
    one, if need be one more than there are, so it never waits for the long request of another client.

    A worker has one limiter. Only the worker's event loop may use it.

    slots: number of requests that may run at the same time.
    max_running_or_queued: number of requests of one client that may wait for a slot or hold one.
    """

    def __init__(
        self,
        slots: int,
        max_running_or_queued: int = MAX_RUNNING_OR_QUEUED,
    ):
        self.slots = slots
        self.workers = worker_count()
        self.greedy_clients = GreedyClients(_loop_seconds)
        self.requests = SharedLimit(MAX_CLIENTS * max_running_or_queued, max_running_or_queued)
        self.holding: Counter[str] = Counter()
        self.waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self.turns: Counter[str] = Counter()  # by client: the number of its last turn; 0 if that was long ago
        self.active_until: dict[str, float] = {}
        self.granted_at: dict[str, float] = {}  # by client: when its last turn began

    @property
    def running_or_queued(self) -> int:
        """Return the number of requests of all clients that wait for a slot or hold one."""
        return self.requests.held.total()

    def check_room(self, client: str) -> None:
        """Raise FrameError (429) if the limiter takes no new request of this client."""
        if not self.requests.has_room(client):
            self.greedy_clients.record_refusal(client)
            raise too_many_error()

    async def acquire(self, client: str, refuse_when_full: bool = False) -> None:
        """Wait for a slot; `release` gives it back.

        Raises FrameError (429) at once when `refuse_when_full` is set and the client has too many requests.
        """
        if refuse_when_full:
            self.check_room(client)
        self.requests.held[client] += 1
        self.active_until[client] = math.inf
        self.greedy_clients.record_active(client)
        future = asyncio.get_running_loop().create_future()
        self.waiting.setdefault(client, deque()).append(future)
        self._grant()
        try:
            with REQUESTS_QUEUED.track_inprogress():
                await future
        except BaseException:
            if future.done() and not future.cancelled():
                self._give_back(client)
            elif future in self.waiting.get(client, ()):
                self._stop_waiting(client, future)
            self._forget_request(client)
            raise
        REQUESTS_RUNNING.inc()

    def release(self, client: str) -> None:
        """Give a slot to the next client in turn."""
        REQUESTS_RUNNING.dec()
        self._forget_request(client)
        if pause := self.greedy_clients.record_end(client, _loop_seconds() - self.granted_at[client]):
            asyncio.get_running_loop().call_later(pause + CLOCK_SECONDS, self._grant)
        self._give_back(client)

    @asynccontextmanager
    async def slot(self, client: str) -> AsyncIterator[None]:
        """Wait for a slot and hold it in the `async with` block."""
        await self.acquire(client)
        try:
            yield
        finally:
            self.release(client)

    def _forget_request(self, client: str) -> None:
        self.requests.release(client)
        if not self.requests.held[client]:
            self.active_until[client] = _loop_seconds() + ACTIVE_SECONDS

    def _give_back(self, client: str) -> None:
        self.holding[client] -= 1
        if not self.holding[client]:
            del self.holding[client]
        self._grant()

    def _stop_waiting(self, client: str, future: asyncio.Future[None]) -> None:
        """Take a request out of the queue."""
        self.waiting[client].remove(future)
        if not self.waiting[client]:
            del self.waiting[client]

    def _grant(self) -> None:
        """Give slots to the clients whose last turn was longest ago."""
        now = _loop_seconds()
        self.active_until = {client: until for client, until in self.active_until.items() if until > now}
        self.greedy_clients.forget()
        self.granted_at = {client: self.granted_at[client] for client in self.active_until if client in self.granted_at}
        self.turns = Counter({client: self.turns[client] for client in self.active_until})
        while clients := list(filter(self._may_run, self.waiting)):
            client = min(clients, key=self.turns.__getitem__)
            future = self.waiting[client][0]
            self._stop_waiting(client, future)
            if not future.cancelled():
                self.holding[client] += 1
                self.turns[client] = max(self.turns.values()) + 1
                self.granted_at[client] = now
                future.set_result(None)

    def _may_run(self, client: str) -> bool:
        holding = self.holding[client]
        if self.holding.total() >= self.slots + (not holding) or self.greedy_clients.is_paused(client):
            return False
        parts = max(len(self.active_until), self.workers if self.greedy_clients.must_yield(client) else 1)
        return holding < math.ceil(self.slots / parts)


LIMITER = FairConcurrencyLimiter(cpu_cores())
