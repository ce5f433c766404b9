"""A thread that writes in place of the caller: a write that hangs must not hang a request or the event loop."""

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future


class WriterThread:
    """Runs writes one after another, in the order of `submit`. A daemon thread: a hanging write delays no exit.

    name: of the thread.
    max_queued: writes that may wait.
    """

    def __init__(self, name: str, max_queued: int):
        self.queue: queue.Queue[tuple[Future[None], Callable[[], None]]] = queue.Queue(max_queued)
        self.write_began: float | None = None  # time.monotonic(); None while no write runs
        threading.Thread(target=self._run, daemon=True, name=name).start()

    def submit(self, write: Callable[[], None]) -> Future[None]:
        """Queue a write and return its future. Raises queue.Full."""
        future: Future[None] = Future()
        self.queue.put_nowait((future, write))
        return future

    def write_seconds(self) -> float:
        """Return for how long the current write has run; 0 if none runs."""
        began = self.write_began
        return 0.0 if began is None else time.monotonic() - began

    def wait_until_idle(self, seconds: float) -> None:
        """Return when nothing is queued, or after some seconds."""
        deadline = time.monotonic() + seconds
        while self.queue.unfinished_tasks and time.monotonic() < deadline:
            time.sleep(0.01)

    def _run(self) -> None:
        while True:
            future, write = self.queue.get()
            if future.set_running_or_notify_cancel():
                self.write_began = time.monotonic()
                try:
                    write()
                except BaseException as error:
                    future.set_exception(error)
                else:
                    future.set_result(None)
                self.write_began = None
            self.queue.task_done()
