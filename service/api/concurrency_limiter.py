"""Limit how many requests run at the same time; the others wait in a queue."""

import asyncio

from service.errors import too_many
from service.machine_resources import cpu_cores
from service.monitoring.prometheus_metrics import REQUESTS_QUEUED, REQUESTS_RUNNING

MAX_QUEUED = 64  # requests that wait for a slot or hold one


class ConcurrencyLimiter:
    """Slots for running requests, first come, first served.

    A worker has one limiter. Only the worker's event loop may use it.
    """

    def __init__(self, slots: int, max_queued: int = MAX_QUEUED):
        self.slots, self.max_queued = asyncio.Semaphore(slots), max_queued
        self.queued = 0  # requests that wait for a slot or hold one

    @property
    def is_full(self) -> bool:
        """Whether the queue takes no new request."""
        return self.queued >= self.max_queued

    async def acquire(self, refuse_when_full: bool = False) -> None:
        """Wait for a slot; `release` gives it back.

        Raises FrameError (429) at once when `refuse_when_full` is set and the queue is full.
        """
        if refuse_when_full and self.is_full:
            raise too_many()
        self.queued += 1
        try:
            with REQUESTS_QUEUED.track_inprogress():
                await self.slots.acquire()
        except BaseException:
            self.queued -= 1
            raise
        REQUESTS_RUNNING.inc()

    def release(self) -> None:
        """Give a slot to the next request of the queue."""
        self.queued -= 1
        REQUESTS_RUNNING.dec()
        self.slots.release()


LIMITER = ConcurrencyLimiter(cpu_cores())
