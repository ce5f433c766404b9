"""The upload buffers of all connections together are bounded."""

import pytest

from service.api.idle_connections import MAX_CONNECTIONS, ConnectionLimiter
from service.api.upload_buffers import MAX_HIGH_WATER_BYTES, MAX_UNREAD_BYTES, MIN_HIGH_WATER_BYTES, HighWaterLimit


@pytest.mark.parametrize("count", [1, 16, 100, MAX_CONNECTIONS])
def test_the_upload_buffers_of_all_connections_are_bounded(count) -> None:
    limiter = ConnectionLimiter(object)
    high_water_limit = HighWaterLimit(limiter)
    limiter.connections = set(range(count))
    sizes = range(0, MAX_HIGH_WATER_BYTES + 2**16, 2**14)
    largest = max(size for size in sizes if not size > high_water_limit)
    assert MIN_HIGH_WATER_BYTES <= largest <= MAX_HIGH_WATER_BYTES
    assert count * largest <= MAX_UNREAD_BYTES
