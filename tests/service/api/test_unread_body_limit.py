"""The upload buffers of all connections together are bounded."""

import pytest

from service.api.idle_connection_timeout import MAX_CONNECTIONS
from service.api.unread_body_limit import MAX_HIGH_WATER_BYTES, MAX_UNREAD_BYTES, MIN_HIGH_WATER_BYTES, max_unread_bytes


@pytest.mark.parametrize("count", [0, 1, 16, 100, MAX_CONNECTIONS])
def test_the_upload_buffers_of_all_connections_are_bounded(count) -> None:
    largest = max_unread_bytes(count)
    assert MIN_HIGH_WATER_BYTES <= largest <= MAX_HIGH_WATER_BYTES
    assert count * largest <= MAX_UNREAD_BYTES
