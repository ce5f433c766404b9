"""Write the log as JSON lines if NERVEMASK_LOG is `json`."""

import json
import logging
import os
from datetime import UTC, datetime


class JsonFormatter(logging.Formatter):
    """One JSON object per record: time, level, logger, message; the traceback of an exception; the recorded trace."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        if trace := getattr(record, "trace_msg", ""):  # set by BentoML
            line["trace"] = trace.strip()
        return json.dumps(line)


def configure_log_format() -> None:
    """Set the formatter of all log handlers. Call it after BentoML has installed its handlers; filters stay."""
    if os.environ.get("NERVEMASK_LOG") != "json":
        return
    for name in ("", "bentoml", "uvicorn.error", "circus"):
        for handler in logging.getLogger(name).handlers:
            handler.setFormatter(JsonFormatter())
