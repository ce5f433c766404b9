"""Count the frames in flight. A frame that is alone may use all CPU cores."""

import math
import threading
import time

ALL_CORES_AFTER_SECONDS = 0.1  # without a second frame in flight


class FramesInFlight:
    """Counts the frames that are being segmented. A context manager for each frame; thread-safe."""

    def __init__(self) -> None:
        self.count = 0
        self.last_concurrent = -math.inf  # time.monotonic() when two frames were last in flight
        self.lock = threading.Lock()

    @property
    def may_use_all_cores(self) -> bool:
        """Whether the network may use all cores: one frame is in flight, and was alone for ALL_CORES_AFTER_SECONDS.

        While several clients send frames, the next frame arrives soon, in this worker or in another. Each thread of a
        network on all cores would then wait for a free core. The slowest responses would become much slower.
        """
        return self.count == 1 and time.monotonic() - self.last_concurrent > ALL_CORES_AFTER_SECONDS

    def __enter__(self) -> None:
        with self.lock:
            self.count += 1
            if self.count > 1:
                self.last_concurrent = time.monotonic()

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.count -= 1
