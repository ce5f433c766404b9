"""Connections whose input waits take turns, and little of what nobody needs is read."""

import asyncio

from service.api.event_loop_turns import MAX_DISCARDED_PER_SECOND, DiscardBudget, EventLoopTurns


def test_turns_go_round() -> None:
    class Connection:
        def __init__(self, loop: asyncio.AbstractEventLoop, slices: int):
            self.loop, self.slices = loop, slices

        @property
        def has_input(self) -> bool:
            return self.slices > 0

        def parse_slice(self) -> None:
            self.slices -= 1
            turns_taken.append(self)

    turns_taken: list[Connection] = []

    async def scene() -> list[Connection]:
        connections = [Connection(asyncio.get_running_loop(), slices) for slices in (3, 1, 2)]
        turns = EventLoopTurns()
        for connection in connections:
            turns.add(connection)
        while len(turns_taken) < 6:
            await asyncio.sleep(0)
        return connections

    first, second, third = asyncio.run(scene())
    assert turns_taken == [first, second, third, first, third, first]


def test_few_bytes_are_discarded_in_a_second() -> None:
    seconds = [0.0]
    budget = DiscardBudget(lambda: seconds[0])
    assert budget.spend(MAX_DISCARDED_PER_SECOND)
    assert not budget.spend(1)
    seconds[0] += 1
    assert budget.spend(1)
