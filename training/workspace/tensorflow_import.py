"""Import TensorFlow without its log lines at start, and keep the memory that its steps free."""

import os
import sys

from service.resources.malloc_options import keep_freed_memory


def import_tensorflow() -> None:
    """Import TensorFlow and search for GPUs, with the standard error stream of the process closed meanwhile.

    TensorFlow's C++ code logs about oneDNN and missing CUDA libraries before any log level takes effect. These lines
    come at every start and do not concern the user. Python exceptions are raised as usual.
    """
    keep_freed_memory()
    # By default TensorFlow uses oneDNN's kernels only on CPUs with AVX512-VNNI. They are faster on other CPUs too.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    sys.stderr.flush()
    stderr, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        import tensorflow

        tensorflow.config.list_physical_devices("GPU")
        tensorflow.get_logger().setLevel("ERROR")  # else it warns of many networks in one process, which is intended
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(null)
