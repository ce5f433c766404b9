"""Limit the bytes of uploads that uvicorn buffers for all connections of a worker together."""

from service.api.idle_connections import ConnectionLimiter

MAX_UNREAD_BYTES = 64 * 2**20  # of request bodies, all connections of one worker together
MIN_HIGH_WATER_BYTES = 2**16  # of one connection
MAX_HIGH_WATER_BYTES = 4 * 2**20  # of one connection


class HighWaterLimit:
    """The number of bytes of a body that uvicorn buffers for one connection before the application reads them.

    A few connections get a large buffer each, for fast uploads; many connections share MAX_UNREAD_BYTES (backpressure).
    """

    def __init__(self, limiter: ConnectionLimiter):
        self.limiter = limiter

    def __lt__(self, byte_count: int) -> bool:
        """Return whether a buffer with `byte_count` is over the limit.

        Python calls this method for uvicorn's `byte_count > limit`.
        """
        share = MAX_UNREAD_BYTES // max(1, len(self.limiter.connections))
        return byte_count > min(MAX_HIGH_WATER_BYTES, max(MIN_HIGH_WATER_BYTES, share))
