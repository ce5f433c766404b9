"""Limit the bytes that all requests of one worker hold together."""

from service.machine_resources import CPU_WORKERS

MAX_WORKER_BUDGET_BYTES = 2048 * 2**20


def worker_budget_bytes(memory: int) -> int:
    """Return the bytes of all uploads that one worker may hold at once.

    A quarter of the memory goes to uploads, because /tmp may be in memory. Half goes to the decoder processes
    (service.decoding.decoder_process).

    memory: bytes of memory of all workers together.
    """
    return min(MAX_WORKER_BUDGET_BYTES, memory // 4 // CPU_WORKERS)


class ByteBudget:
    """A number of bytes that requests share.

    max_bytes: the bytes that may be reserved at once.
    """

    def __init__(self, max_bytes: int):
        self.max_bytes = max_bytes
        self.reserved_bytes = 0

    def reserve(self, byte_count: int) -> bool:
        """Reserve bytes; return False, and reserve none, when the budget does not hold them."""
        if self.reserved_bytes + byte_count > self.max_bytes:
            return False
        self.reserved_bytes += byte_count
        return True

    def release(self, byte_count: int) -> None:
        """Give back bytes that were reserved."""
        self.reserved_bytes -= byte_count
