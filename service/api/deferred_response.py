"""A response that begins only when it is complete, and may take long to compute."""

import asyncio
from collections.abc import Callable

from anyio import from_thread
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from service.request import RequestState

STEP_DONE: Message = {"type": "nervemask.step_done"}  # to ConcurrencyMiddleware, which does not send it on


class DeferredResponse(Response):
    """A response whose content is computed in steps, in a thread, before the first byte is sent.

    After each step ConcurrencyMiddleware gives the slot to the next request of the queue and extends the response
    deadline. When the client disconnects, the request is marked as abandoned, and no further step runs.
    """

    def __init__(self, compute: Callable[[Callable[[], None]], Response]):
        """compute: returns the response; it must call its argument, a function without arguments, after each step."""
        super().__init__()
        self.compute = compute

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def report_step() -> None:
            await send(STEP_DONE)

        async def abandon_on_disconnect() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            RequestState.of(scope).abandoned = True

        watcher = asyncio.create_task(abandon_on_disconnect())
        try:
            response = await run_in_threadpool(self.compute, lambda: from_thread.run(report_step))
        finally:
            watcher.cancel()
        await response(scope, receive, send)
