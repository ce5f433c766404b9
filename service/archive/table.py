"""Write the archive's table, a Parquet data set with a row for each frame, from the records."""

import io
import time
import uuid
from collections.abc import Iterator
from json import dumps, loads
from pathlib import Path

import pyarrow as pa
from filelock import FileLock
from pyarrow import json, parquet

from service.archive.frame_rows import SCHEMA
from service.archive.result_store import PARTS, ResultStore

CLOCK_TICK_NS = 10**9  # no clock of a file system is coarser
CHANGES = b"nervemask.changes"  # in the metadata of a part
LOCK_SECONDS = 3600.0
LINES_BYTES = 8 * 2**20  # of records that are read at once


def write_table(store: ResultStore) -> None:
    """Write all parts of the table. Runs that do it at once wait for each other, for each part."""
    store.table.mkdir(parents=True, exist_ok=True)
    for first_digit in PARTS:
        with FileLock(store.table / f".part-{first_digit}.lock", timeout=LOCK_SECONDS):
            write_part(store, first_digit)


def write_part(store: ResultStore, first_digit: str) -> None:
    """Write the part of the table with the files whose digests begin with a digit, if a record has changed since."""
    part = store.table / f"part-{first_digit}.parquet"
    folders = sorted(store.records.glob(f"{first_digit}?"))
    changes = {folder.name: folder.stat().st_mtime_ns for folder in folders}
    if not folders or _made_from(part) == changes:
        return
    if time.time_ns() - max(changes.values()) < CLOCK_TICK_NS:
        changes = {}  # the next record may come at the same time of the clock: the next run writes the part again
    unfinished = part.with_name(f".{part.name}.{uuid.uuid4().hex}")
    schema = SCHEMA.with_metadata({CHANGES: dumps(changes)})
    try:
        with parquet.ParquetWriter(unfinished, schema) as writer:
            for lines in _read_lines(folders):
                options = json.ParseOptions(explicit_schema=SCHEMA, unexpected_field_behavior="error")
                rows = json.read_json(io.BytesIO(lines), parse_options=options).select(SCHEMA.names)
                writer.write_table(rows.replace_schema_metadata(schema.metadata))
        unfinished.replace(part)
    finally:
        unfinished.unlink(missing_ok=True)


def _made_from(part: Path) -> dict[str, int] | None:
    """Return when the folders of records had changed that a part was made from; None if there is no part."""
    try:
        metadata = parquet.read_schema(part).metadata
        return dict(loads(metadata[CHANGES])) if metadata and CHANGES in metadata else None
    except (OSError, pa.ArrowInvalid):
        return None


def _read_lines(folders: list[Path]) -> Iterator[bytes]:
    """Yield the lines of all records, many at a time."""
    lines: list[bytes] = []
    size = 0
    for record in (record for folder in folders for record in sorted(folder.glob("[0-9a-f]*.jsonl"))):
        try:
            lines.append(record.read_bytes())
        except FileNotFoundError:  # another run could read the file meanwhile
            continue
        size += len(lines[-1])
        if size > LINES_BYTES:
            yield b"".join(lines)
            lines, size = [], 0
    if lines:
        yield b"".join(lines)
