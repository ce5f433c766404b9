"""A client that sends requests without a pause, to show that a server loses none of them."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx

from tests.conftest import RunningServer

PNG = {"content-type": "image/png"}


class ContinuousClient:
    """Posts the same frame to /mask again and again. responses, errors: what it got."""

    def __init__(self, address: str, frame: bytes):
        self.address, self.frame = address, frame
        self.responses: list[httpx.Response] = []
        self.errors: list[httpx.TransportError] = []

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                self.responses.append(httpx.post(f"{self.address}/mask", content=self.frame, headers=PNG, timeout=60))
            except httpx.TransportError as error:
                self.errors.append(error)
                stop.wait(0.05)


@contextmanager
def continuous_client(server: RunningServer, frame: bytes) -> Iterator[ContinuousClient]:
    client, stop = ContinuousClient(server.address, frame), threading.Event()
    thread = threading.Thread(target=client.run, args=(stop,))
    thread.start()
    try:
        yield client
    finally:
        stop.set()
        thread.join()


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"the condition is not true after {seconds} seconds"
        time.sleep(0.1)
