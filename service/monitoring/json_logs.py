"""Write the log in a thread, as JSON lines if NERVEMASK_LOG is `json`."""

import atexit
import contextlib
import json
import logging
import os
import queue
from datetime import UTC, datetime
from typing import TextIO

from service.monitoring.writer_thread import WriterThread

LOGGERS = ("", "bentoml", "uvicorn.error", "circus")  # those for which BentoML installs handlers
MAX_QUEUED_RECORDS = 4096
MAX_EXIT_SECONDS = 1.0  # to write the last records


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


class ThreadedStreamHandler(logging.Handler):
    """Writes records to a stream in a thread. While nobody reads the stream, it drops records and counts them.

    Without it, a full pipe would stop the event loop at the next record.
    """

    def __init__(self, stream: TextIO):
        super().__init__()
        self.stream = stream
        self.thread = WriterThread("log", MAX_QUEUED_RECORDS)
        self.dropped_records = 0
        atexit.register(self.thread.wait_until_idle, MAX_EXIT_SECONDS)

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record) + "\n"
        if self.dropped_records:
            text = f"{self.dropped_records} log records were dropped: nobody read them.\n{text}"
        try:
            self.thread.submit(lambda: self._write(text))
            self.dropped_records = 0
        except queue.Full:
            self.dropped_records += 1

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # no log can say that the log is closed
            self.stream.write(text)
            self.stream.flush()


def configure_logs() -> None:
    """Replace the stream handlers of all logs. Call it after BentoML has installed its handlers; filters stay."""
    replaced: dict[logging.Handler, ThreadedStreamHandler] = {}
    for logger in map(logging.getLogger, LOGGERS):
        for old in [handler for handler in logger.handlers if type(handler) is logging.StreamHandler]:
            if old not in replaced:
                new = replaced[old] = ThreadedStreamHandler(old.stream)
                new.setLevel(old.level)
                new.setFormatter(JsonFormatter() if os.environ.get("NERVEMASK_LOG") == "json" else old.formatter)
                new.filters = old.filters
            logger.removeHandler(old)
            logger.addHandler(replaced[old])
