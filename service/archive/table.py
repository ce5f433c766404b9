"""Write the archive's table, a Parquet data set with a row for each frame, from the records."""

import io
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from filelock import FileLock
from pyarrow import json, parquet

from service.archive.frame_rows import SCHEMA
from service.archive.result_store import ResultStore

CLOCK_TICK_NS = 10**9  # no clock of a file system is coarser
LINES_BYTES = 8 * 2**20  # of records that are read at once


def write_part(store: ResultStore, first_digit: str) -> None:
    """Write the part of the table with the files whose digests begin with a digit, if a record is newer than the part.

    Runs that write it at once wait for each other: each then includes what the other one wrote.
    """
    part = store.table / f"part-{first_digit}.parquet"
    folders = sorted(store.records.glob(f"{first_digit}?"))
    if not folders:
        return
    part.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(part.with_suffix(".lock")):
        changed_ns = max(folder.stat().st_mtime_ns for folder in folders)
        if part.exists() and part.stat().st_mtime_ns == changed_ns:
            return
        unfinished = part.with_name(f".{part.name}.{uuid.uuid4().hex}")
        try:
            with parquet.ParquetWriter(unfinished, SCHEMA) as writer:
                for lines in _read_lines(folders):
                    options = json.ParseOptions(explicit_schema=SCHEMA, unexpected_field_behavior="error")
                    writer.write_table(json.read_json(io.BytesIO(lines), parse_options=options).select(SCHEMA.names))
            if time.time_ns() - changed_ns > CLOCK_TICK_NS:  # else a record may come with the same time
                os.utime(unfinished, ns=(changed_ns, changed_ns))
            unfinished.replace(part)
        finally:
            unfinished.unlink(missing_ok=True)


def _read_lines(folders: list[Path]) -> Iterator[bytes]:
    """Yield the lines of all records, many at a time."""
    lines: list[bytes] = []
    size = 0
    for record in (record for folder in folders for record in sorted(folder.glob("[0-9a-f]*.jsonl"))):
        lines.append(record.read_bytes())
        size += len(lines[-1])
        if size > LINES_BYTES:
            yield b"".join(lines)
            lines, size = [], 0
    if lines:
        yield b"".join(lines)


def read_table(store: ResultStore, columns: list[str] | None = None) -> pa.Table:
    """Return columns of the table."""
    return parquet.read_table(sorted(store.table.glob("part-*.parquet")), columns=columns, schema=SCHEMA)
