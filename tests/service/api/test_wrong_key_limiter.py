"""Wrong keys are counted by client and by second."""

import pytest

from service.api.wrong_key_limiter import (
    MAX_FREE_WRONG_KEYS,
    MAX_RETRY_AFTER_SECONDS,
    MAX_WRONG_KEYS_PER_SECOND,
    WrongKeyLimiter,
)


@pytest.fixture
def limiter() -> WrongKeyLimiter:
    return WrongKeyLimiter(lambda: 0.0)


def test_a_client_is_an_ipv4_address_or_an_ipv6_network(limiter) -> None:
    delays = [limiter.record(f"2001:db8::{number:x}") for number in range(MAX_FREE_WRONG_KEYS + 2)]
    assert delays == [0] * MAX_FREE_WRONG_KEYS + [2, 4]
    assert limiter.record("192.0.2.1") == 0


def test_the_delay_of_a_client_is_bounded(limiter) -> None:
    assert {limiter.record("192.0.2.1") for _ in range(2000)} == {0, 2, 4, 8, 16, 32, MAX_RETRY_AFTER_SECONDS}


def test_wrong_keys_from_many_addresses_are_a_flood_until_the_next_second() -> None:
    seconds = [0.0]
    limiter = WrongKeyLimiter(lambda: seconds[0])
    for number in range(MAX_WRONG_KEYS_PER_SECOND):
        limiter.record(f"client {number}")
    assert not limiter.is_flooded
    assert limiter.record("one more") == 0
    assert limiter.is_flooded
    seconds[0] += 1
    limiter.record("another")
    assert not limiter.is_flooded
