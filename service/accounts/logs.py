"""The log as JSON lines, where NERVEMASK_LOG=json asks for it."""

import json
import logging
import os
from datetime import UTC, datetime


class JsonLines(logging.Formatter):
    """time, level, logger, message, and the traceback where there is one; the trace where one is recorded."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        if trace := getattr(record, "trace_msg", ""):  # BentoML's
            line["trace"] = trace.strip()
        return json.dumps(line)


def told_as_configured() -> None:
    """BentoML has set its handlers up by now: they keep their filters, and get the form that is asked for."""
    if os.environ.get("NERVEMASK_LOG") != "json":
        return
    for name in ("", "bentoml", "uvicorn.error", "circus"):
        for handler in logging.getLogger(name).handlers:
            handler.setFormatter(JsonLines())
