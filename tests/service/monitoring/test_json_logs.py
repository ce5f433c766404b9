"""JSON logs: one object per record."""

import json
import logging
import os
import select
import sys

from service.monitoring.json_logs import MAX_QUEUED_RECORDS, JsonFormatter, ThreadedStreamHandler


def format_record(**attributes) -> dict:
    record = logging.LogRecord("bentoml.nervemask", logging.ERROR, "file.py", 1, "no %s", ("disk",), None)
    record.__dict__.update(attributes)
    return json.loads(JsonFormatter().format(record))


def test_a_record_has_time_level_logger_and_message() -> None:
    line = format_record(created=0.5)
    assert line == {
        "time": "1970-01-01T00:00:00.500+00:00",
        "level": "error",
        "logger": "bentoml.nervemask",
        "message": "no disk",
    }


def test_a_record_has_the_traceback_and_the_trace() -> None:
    try:
        raise OSError("full")
    except OSError:
        line = format_record(exc_info=sys.exc_info(), trace_msg=" [trace=1] ")
    assert line["traceback"].endswith("OSError: full")
    assert line["trace"] == "[trace=1]"


def read_available(descriptor: int) -> bytes:
    """Return what can be read within 0.1 s: a read of an empty pipe would wait for ever."""
    return os.read(descriptor, 2**16) if select.select([descriptor], [], [], 0.1)[0] else b""


def test_a_log_that_nobody_reads_blocks_nothing_and_goes_on_later() -> None:
    reader, writer = os.pipe()
    handler = ThreadedStreamHandler(os.fdopen(writer, "w"))
    for _ in range(MAX_QUEUED_RECORDS + 500):
        handler.emit(logging.makeLogRecord({"msg": "x" * 200}))
    assert handler.dropped_records > 0
    text = b""
    while handler.thread.queue.unfinished_tasks:
        text += read_available(reader)
    handler.emit(logging.makeLogRecord({"msg": "last"}))
    while not text.endswith(b"last\n"):
        text += read_available(reader)
    assert b"log records were dropped: nobody read them" in text
