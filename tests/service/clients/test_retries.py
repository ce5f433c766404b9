"""The pause before a request is sent again."""

import httpx
import pytest

from service.clients.retries import backoff_seconds, retry_after_seconds


@pytest.mark.parametrize(
    ("retry_after", "seconds"), [("0", 0), ("7", 7), ("3600", 60), ("soon", 1), (None, 1)], ids=str
)
def test_the_batch_client_waits_as_long_as_retry_after_says(retry_after, seconds) -> None:
    headers = {} if retry_after is None else {"retry-after": retry_after}
    assert retry_after_seconds(httpx.Response(429, headers=headers)) == seconds


def test_the_pause_of_the_bridge_doubles_up_to_half_a_minute() -> None:
    assert [backoff_seconds(attempt) for attempt in range(8)] == [1, 2, 4, 8, 16, 30, 30, 30]
