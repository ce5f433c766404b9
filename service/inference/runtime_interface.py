"""The interface of a network runtime. Runtimes are thread-safe."""

from typing import Protocol

import numpy as np

from service.model.card import Precision


class Runtime(Protocol):
    """A loaded network.

    device: name of the processor and of the library, for people.
    precision: number format of the computation.
    """

    device: str
    precision: Precision

    def __call__(self, batch: np.ndarray, all_cores: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """Return the probability of nerve per pixel, float32 (N, H, W, 1), and of a nerve per frame, float32 (N,).

        batch: float32 (N, H, W, 1), normalised.
        all_cores: use all CPU cores. Pass False while other frames are in flight. A GPU runtime ignores it.
        """
        ...
