"""Slots for running requests go round by client: a client with many requests delays no other."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from service.api.fair_concurrency_limiter import FairConcurrencyLimiter
from service.api.greedy_clients import ACTIVE_SECONDS
from service.errors import FrameError
from tests.service.api.virtual_time import run_in_virtual_time


def limiter_of(slots: int, max_running_or_queued: int = 64) -> FairConcurrencyLimiter:
    return FairConcurrencyLimiter(slots, max_running_or_queued)


async def hold(limiter: FairConcurrencyLimiter, client: str, order: list[str], seconds: float = 1.0) -> None:
    async with limiter.slot(client):
        order.append(client)
        await asyncio.sleep(seconds)


def run(*steps: Coroutine[Any, Any, Any]) -> None:
    async def gather() -> None:
        await asyncio.gather(*steps)

    run_in_virtual_time(gather())


def test_clients_take_turns_however_many_requests_one_has() -> None:
    limiter, order = limiter_of(1), []
    run(*(hold(limiter, client, order) for client in "aaaaaabbc"))
    assert order[:2] == ["a", "b"]  # bob does not wait for alice's frame
    assert order[2] == "c"  # it has had no turn yet
    assert sorted(order[3:5]) == ["a", "b"]
    assert limiter.running_or_queued == 0


def test_a_client_alone_gets_all_slots_and_shares_them_while_others_are_active() -> None:
    running: list[int] = []
    limiter, order = limiter_of(4), []

    async def watch() -> None:
        for _ in range(6):
            await asyncio.sleep(1)
            running.append(limiter.holding["a"])

    async def other() -> None:
        await asyncio.sleep(1.5)
        await hold(limiter, "b", order, 0.1)

    run(watch(), other(), *(hold(limiter, "a", order, 0.9) for _ in range(30)))
    assert running[0] == 4
    assert running[2] == 2  # until ACTIVE_SECONDS after bob's last request
    assert running[5] == 4
    assert ACTIVE_SECONDS == 2


def test_a_client_without_a_slot_never_waits_for_the_long_request_of_another() -> None:
    started: list[float] = []

    async def other() -> None:
        await asyncio.sleep(1)
        async with limiter.slot("b"):
            started.append(asyncio.get_running_loop().time())

    limiter = limiter_of(1)
    run(hold(limiter, "a", [], 20), other())
    assert started == [1]


def test_a_client_that_sends_too_many_requests_is_refused_and_no_other_is() -> None:
    async def send() -> None:
        limiter = limiter_of(1, max_running_or_queued=2)
        tasks = [asyncio.create_task(hold(limiter, "a", [])) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(FrameError) as error:
            await limiter.acquire("a", refuse_when_full=True)
        assert error.value.status == 429
        await limiter.acquire("b", refuse_when_full=True)
        limiter.release("b")
        await asyncio.gather(*tasks)
        assert limiter.running_or_queued == 0

    run(send())


def test_a_request_that_stops_waiting_leaves_the_queue_and_gives_back_a_slot_that_it_just_got() -> None:
    async def send() -> None:
        limiter = limiter_of(1)
        await limiter.acquire("a")
        waiting = asyncio.create_task(limiter.acquire("a"))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert limiter.running_or_queued == 1
        granted = asyncio.create_task(limiter.acquire("a"))
        await asyncio.sleep(0)
        limiter.release("a")  # grants the slot
        granted.cancel()  # before the request has seen it
        await asyncio.gather(granted, return_exceptions=True)
        assert (limiter.running_or_queued, limiter.holding.total()) == (0, 0)

    run(send())
