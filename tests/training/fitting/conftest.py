"""A fixture for trainings of a few steps."""

from collections.abc import Iterator

import pytest


@pytest.fixture
def eager_keras() -> Iterator[None]:
    """Run Keras without graphs: tracing a graph takes longer than a few training steps."""
    import tensorflow

    tensorflow.config.run_functions_eagerly(True)
    yield
    tensorflow.config.run_functions_eagerly(False)
