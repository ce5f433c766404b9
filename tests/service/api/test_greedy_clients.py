"""A greedy client leaves most of the time to others, in all workers, and only while others are active."""

import asyncio

from service.api.fair_concurrency_limiter import FairConcurrencyLimiter
from service.api.greedy_clients import ACTIVE_SECONDS, GREEDY_SECONDS, MAX_PAUSE_SECONDS, PAUSE_FACTOR, GreedyClients
from service.api.worker_table import ROWS, WorkerRow, WorkerTable
from tests.service.api.virtual_time import run_in_virtual_time


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def workers(clock: Clock, count: int = 2) -> list[GreedyClients]:
    """The greedy clients of workers that share a table."""
    table = WorkerTable.of_one_process()
    all_clients = [GreedyClients(clock) for _ in range(count)]
    for number, clients in enumerate(all_clients, 1):
        clients.join(table, number)
    return all_clients


def test_a_greedy_client_pauses_while_another_client_is_active_in_any_worker() -> None:
    clock = Clock()
    first, second = workers(clock)
    first.record_refusal("greedy")
    assert first.record_end("greedy", 0.5) == 0  # it is alone
    second.record_active("other")
    assert first.record_end("other", 0.5) == 0
    assert first.record_end("greedy", 0.5) == 0.5 * PAUSE_FACTOR
    assert first.is_paused("greedy")
    assert not first.is_paused("other")
    clock.now += 0.5 * PAUSE_FACTOR
    assert not first.is_paused("greedy")
    assert first.record_end("greedy", 100) == MAX_PAUSE_SECONDS
    clock.now += ACTIVE_SECONDS + 1
    assert first.record_end("greedy", 0.5) == 0  # the other client has been silent for a while


def test_a_greedy_client_does_not_count_as_another_one() -> None:
    clock = Clock()
    first, second = workers(clock)
    for clients in (first, second):
        clients.record_refusal("greedy")
        clients.record_active("greedy")
    assert first.record_end("greedy", 0.5) == 0


def test_a_client_that_is_refused_no_longer_is_forgotten() -> None:
    clock = Clock()
    (clients,) = workers(clock, 1)
    clients.record_refusal("greedy")
    clients.record_active("other")
    clients.record_end("greedy", 1)
    clock.now += GREEDY_SECONDS + 1
    assert not clients.is_greedy("greedy")
    clients.forget()
    assert clients.greedy_until == clients.paused_until == {}


def test_the_times_of_the_table_leave_its_rows_alone() -> None:
    table = WorkerTable.of_one_process()
    row = WorkerRow(1, 2, "nerve-unet 7", {"audit": "the disk is full"})
    for number in range(1, ROWS + 1):
        table.write(number, row)
        table.write_active(number, "a client", float(number))
    assert [table.read(number) for number in range(1, ROWS + 1)] == [row] * ROWS
    assert table.others_active_until("another client") == ROWS
    assert table.others_active_until("a client") == 0


def test_a_client_that_is_greedy_in_one_worker_alone_is_no_other_client_there() -> None:
    """Its requests in the other worker, which has refused none, say that it is active."""
    clock = Clock()
    first, second = workers(clock)
    first.record_active("greedy")
    first.record_refusal("greedy")
    second.record_active("greedy")
    assert not first.must_yield("greedy")
    second.record_active("other")
    assert first.must_yield("greedy")
    second.record_active("greedy")  # and the row still knows the other one
    assert first.must_yield("greedy")


def test_a_greedy_client_alone_gets_all_slots() -> None:
    """With fewer it would stay greedy: after a worker was replaced, its backlog would never end."""

    async def held(is_other_active: bool) -> int:
        limiter = FairConcurrencyLimiter(2)
        limiter.workers = 2
        await asyncio.sleep(1)
        limiter.greedy_clients.record_refusal("greedy")
        if is_other_active:
            limiter.greedy_clients.record_active("other")
        requests = [asyncio.create_task(limiter.acquire("greedy")) for _ in range(3)]
        await asyncio.sleep(0)
        count = limiter.holding["greedy"]
        for request in requests:
            request.cancel()
        await asyncio.gather(*requests, return_exceptions=True)
        return count

    assert run_in_virtual_time(held(is_other_active=False)) == 2
    assert run_in_virtual_time(held(is_other_active=True)) == 1


def test_the_limiter_gives_a_paused_client_no_slot_and_wakes_it_afterwards() -> None:
    started: list[float] = []

    async def send() -> None:
        limiter = FairConcurrencyLimiter(1)
        loop = asyncio.get_running_loop()
        await asyncio.sleep(1)
        limiter.greedy_clients.record_refusal("greedy")
        limiter.greedy_clients.record_active("other")
        for _ in range(2):
            async with limiter.slot("greedy"):
                started.append(loop.time())
                await asyncio.sleep(0.5)

    run_in_virtual_time(send())
    assert 0.5 * PAUSE_FACTOR <= started[1] - started[0] - 0.5 < 0.5 * PAUSE_FACTOR + 0.01
