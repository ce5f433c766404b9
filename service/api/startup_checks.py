"""Check before the start that the service can serve. BentoML would restart a worker that cannot serve for ever."""

import os
import sys

from service.api.api_key_file import ApiKeysError, check_api_keys, key_file_path, warn_if_others_can_write
from service.monitoring import audit_log_file
from service.monitoring.review_spool import open_review_spool

SETTINGS = {"NERVEMASK_METRICS": ("open", "key", "off"), "NERVEMASK_LOG": ("text", "json")}  # with their values


def check_startup() -> None:
    """Check settings, API keys, audit log and review spool. Raises SystemExit with one line.

    Without a usable model folder the service starts, is not ready, and waits for one: see `model_reload`.
    """
    for name, values in SETTINGS.items():
        if (value := os.environ.get(name)) not in (None, "", *values):
            sys.exit(f"nervemask: {name} is {value!r}: use one of {', '.join(values)}.")
    try:
        check_api_keys()
        if path := key_file_path():
            warn_if_others_can_write(path)
        audit_log_file.check_opens()
        open_review_spool()
    except ApiKeysError as error:
        sys.exit(f"nervemask: {error}")
    except (OSError, ValueError) as error:
        sys.exit(f"nervemask: NERVEMASK_AUDIT or NERVEMASK_SPOOL cannot be used: {error}")
