"""Limit the bytes of request bodies that uvicorn buffers for all connections of a worker together."""

MAX_UNREAD_BYTES = 64 * 2**20  # of all connections of one worker together
MIN_HIGH_WATER_BYTES = 2**16  # of one connection
MAX_HIGH_WATER_BYTES = 4 * 2**20  # of one connection


def max_unread_bytes(connections: int) -> int:
    """Return the bytes of a body that a connection may hold before the application reads them.

    A few connections get a large buffer each, for fast uploads; many share MAX_UNREAD_BYTES (backpressure).
    """
    return min(MAX_HIGH_WATER_BYTES, max(MIN_HIGH_WATER_BYTES, MAX_UNREAD_BYTES // max(1, connections)))
