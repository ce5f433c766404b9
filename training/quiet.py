"""TensorFlow without its greetings."""

import os
import sys


def import_tensorflow() -> None:
    """Import TensorFlow and look for GPUs, with the process's standard error closed to its C++ code meanwhile.

    What it logs before its own log level counts (oneDNN, missing CUDA) comes at every start and tells a reader of the
    pipeline's output nothing. Python's own errors are raised as ever.
    """
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        import tensorflow

        tensorflow.config.list_physical_devices("GPU")
        tensorflow.get_logger().setLevel("ERROR")  # many small nets in one process are meant
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
