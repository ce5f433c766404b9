"""Limit how many requests run at the same time; the others wait in a queue."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.errors import too_many_error
from service.machine_resources import cpu_cores
from service.monitoring.prometheus_metrics import REQUESTS_QUEUED, REQUESTS_RUNNING

MAX_RUNNING_OR_QUEUED = 64  # requests of one worker that wait for a slot or hold one


class ConcurrencyLimiter:
    """Slots for running requests, first come, first served.

    A worker has one limiter. Only the worker's event loop may use it.

    slots: number of requests that may run at the same time.
    max_running_or_queued: number of requests that may wait for a slot or hold one.
    """

    def __init__(self, slots: int, max_running_or_queued: int = MAX_RUNNING_OR_QUEUED):
        self.slots = asyncio.Semaphore(slots)
        self.max_running_or_queued = max_running_or_queued
        self.running_or_queued = 0

    @property
    def is_full(self) -> bool:
        """Return whether the limiter takes no new request."""
        return self.running_or_queued >= self.max_running_or_queued

    async def acquire(self, refuse_when_full: bool = False) -> None:
        """Wait for a slot; `release` gives it back.

        Raises FrameError (429) at once when `refuse_when_full` is set and the limiter is full.
        """
        if refuse_when_full and self.is_full:
            raise too_many_error()
        self.running_or_queued += 1
        try:
            with REQUESTS_QUEUED.track_inprogress():
                await self.slots.acquire()
        except BaseException:
            self.running_or_queued -= 1
            raise
        REQUESTS_RUNNING.inc()

    def release(self) -> None:
        """Give a slot to the next request of the queue."""
        self.running_or_queued -= 1
        REQUESTS_RUNNING.dec()
        self.slots.release()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait for a slot and hold it in the `async with` block."""
        await self.acquire()
        try:
            yield
        finally:
            self.release()


LIMITER = ConcurrencyLimiter(cpu_cores())
