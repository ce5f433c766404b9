"""Delay refusals: a client that ignores Retry-After would keep a core busy with them."""

import asyncio

MAX_DELAYED = 512  # of one worker: half of its connections


class RefusalDelay:
    """Delays the refusals of one worker. With MAX_DELAYED of them, further ones are not delayed.

    delayed: number of refusals that are being delayed.
    """

    def __init__(self) -> None:
        self.delayed = 0

    async def wait(self, seconds: float, max_seconds: float | None = None) -> None:
        """Wait. With `max_seconds`, wait the longer, the more refusals are delayed, up to that."""
        if self.delayed >= MAX_DELAYED:
            return
        share = self.delayed / MAX_DELAYED
        self.delayed += 1
        try:
            await asyncio.sleep(seconds + share * ((max_seconds or seconds) - seconds))
        finally:
            self.delayed -= 1


REFUSAL_DELAY = RefusalDelay()
