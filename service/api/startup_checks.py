"""Check before the start that the service can serve. BentoML would restart a worker that cannot serve for ever."""

import os
import sys

from service.api.api_keys import ApiKeysError, check_api_keys
from service.errors import ModelFolderError
from service.model.card import Card
from service.model.model_folder import model_folder
from service.monitoring import audit_log
from service.monitoring.review_spool import open_review_spool

SETTINGS = {"NERVEMASK_METRICS": ("open", "key", "off"), "NERVEMASK_LOG": ("text", "json")}  # with their values


def check_startup() -> None:
    """Check settings, model folder, API keys, audit log and review spool. Raises SystemExit with one line."""
    for name, values in SETTINGS.items():
        if (value := os.environ.get(name)) not in (None, "", *values):
            sys.exit(f"nervemask: {name} is {value!r}: use one of {', '.join(values)}.")
    try:
        Card.read(model_folder())
        check_api_keys()
        audit_log.check_writable()
        open_review_spool()
    except (ModelFolderError, ApiKeysError) as error:
        sys.exit(f"nervemask: {error}")
    except (OSError, ValueError) as error:
        sys.exit(f"nervemask: NERVEMASK_AUDIT or NERVEMASK_SPOOL cannot be used: {error}")
