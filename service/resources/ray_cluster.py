"""Connect to a Ray cluster, or start Ray on this machine."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from service.resources.container_limits import cpu_cores

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no telemetry

CONNECT_SECONDS = 5.0
# What they say is of Ray's own working.
QUIET_LOGGERS = {
    "ray.data": logging.CRITICAL,
    "ray.tune": logging.ERROR,
    "optuna": logging.WARNING,
    "ray._private.authentication": logging.ERROR,
}


@contextmanager
def connection(address: str | None, environment: dict[str, str], show_output: bool) -> Iterator[None]:
    """Connect to the Ray cluster at an address, or start Ray with all cores of this machine, until the block ends.

    Raises ConnectionError.

    address: such as `head:6379`; None or "": this machine.
    environment: variables of all tasks and actors. Other users of the cluster can see them.
    show_output: print what tasks and actors print.
    """
    import ray

    if address and "://" not in address and ":" in address:
        host, _, port = address.rpartition(":")
        try:  # Ray itself would try for minutes
            socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
        except (OSError, ValueError) as error:
            raise ConnectionError(f"no Ray cluster answers at {address} ({error})") from error
    if not show_output:  # Ray's C++ code logs what concerns Ray's own developers; errors of a job are exceptions
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    for name, level in QUIET_LOGGERS.items():
        logging.getLogger(name).setLevel(level)
    options: dict[str, Any] = {} if address else {"num_cpus": cpu_cores(), "include_dashboard": False}
    try:
        ray.init(
            address=address or "local",
            runtime_env={"env_vars": environment},
            logging_level=logging.WARNING,
            log_to_driver=show_output,
            **options,
        )
    except ValueError as error:
        raise ConnectionError(f"{address} is not the address of a Ray cluster ({error})") from error
    try:
        yield
    finally:
        ray.shutdown()
