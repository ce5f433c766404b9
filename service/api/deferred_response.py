"""A response that is computed in steps. It sends nothing until it is complete."""

import asyncio
import math
from collections.abc import Callable

from anyio import CapacityLimiter, from_thread, to_thread
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.request_state import RequestState

ReportStep = Callable[[], None]
# With a limit on threads, requests that hold a slot could wait for a thread, while requests that hold a thread wait for
# a slot: a deadlock. Other limits bound the number of requests.
THREADS = CapacityLimiter(math.inf)


class DeferredResponse(Response):
    """A response whose content is computed in steps, in a thread, before the first byte is sent.

    After each step RequestQueueMiddleware gives the slot to the next request of the queue and extends the response
    deadline. When the client disconnects, the request is marked as abandoned, and no further step runs.

    compute: returns the response; it must call its argument after each step.
    """

    def __init__(self, compute: Callable[[ReportStep], Response]):
        super().__init__()
        self.compute = compute

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = RequestState.of(scope)

        async def finish_step() -> None:
            if state.finish_step:
                await state.finish_step()

        watcher = asyncio.create_task(_abandon_on_disconnect(state, receive))
        try:
            response = await to_thread.run_sync(self.compute, lambda: from_thread.run(finish_step), limiter=THREADS)
        finally:
            watcher.cancel()
        await response(scope, receive, send)


async def _abandon_on_disconnect(state: RequestState, receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    state.abandoned = True
