"""Limit the bytes that all requests of one worker hold together."""


class ByteBudget:
    """A number of bytes that requests share."""

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
