"""Backoff forgets the oldest client; the wait itself is tested with what uses it."""

from service.api.client_backoff import MAX_CLIENTS, ClientBackoff


def test_the_number_of_remembered_clients_is_bounded() -> None:
    backoff = ClientBackoff(free_faults=0, first_seconds=1, max_seconds=60, clock=lambda: 0.0)
    waits = [backoff.record(f"client {number}") for number in range(2 * MAX_CLIENTS)]
    assert set(waits) == {1}
    assert len(backoff.faults) == MAX_CLIENTS
    assert backoff.seconds_left("client 0") == 0
