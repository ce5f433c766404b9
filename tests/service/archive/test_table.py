"""The table has the rows of all records, each once."""

import os
import re
import time
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from service.archive.frame_rows import SCHEMA
from service.archive.locations import list_source
from service.archive.report import write_report
from service.archive.result_store import ResultStore
from service.archive.table import write_table
from tests import frames


def read_table(store: ResultStore, columns: list[str] | None = None) -> pa.Table:
    return parquet.read_table(sorted(store.table.glob("part-*.parquet")), columns=columns)


def test_the_table_has_a_row_for_each_frame(source, open_store, segment_all) -> None:
    store = open_store()
    segment_all(store, list_source(str(source)))
    write_table(store)
    table = read_table(store)
    assert table.schema.names == SCHEMA.names
    rows = table.to_pylist()
    assert len(rows) == 6
    assert len({(row["digest"], row["frame"]) for row in rows}) == 6
    (error,) = (row for row in rows if row["error"])
    assert (error["frame"], error["present"], error["error"]) == (0, None, "malformed")
    assert all(len(row["box"]) == 4 for row in rows if row["present"])


def test_a_later_run_adds_its_rows(source, open_store, segment_all) -> None:
    store = open_store()
    segment_all(store, [source / "a.png"])
    write_table(store)
    segment_all(store, [source / "nested" / "b.png"])
    write_table(store)
    assert read_table(store, ["frame"]).num_rows == 2


def test_a_part_is_not_written_again_without_a_newer_record(source, open_store, segment_all) -> None:
    store = open_store()
    segment_all(store, [source / "a.png"])
    for folder in store.records.iterdir():  # the records are older than a tick of the clock
        os.utime(folder, (time.time() - 10, time.time() - 10))
    write_table(store)
    (part,) = store.table.glob("part-*.parquet")
    inode = part.stat().st_ino
    write_table(store)
    assert part.stat().st_ino == inode


@pytest.mark.slow
def test_runs_that_write_the_table_at_once_lose_no_row(tmp_path, open_store, segment_all) -> None:
    store = open_store("none")
    paths = [tmp_path / f"{seed}.png" for seed in range(40)]
    for seed, path in enumerate(paths):
        path.write_bytes(frames.png(frames.speckle(seed, 60, 80)))

    def run(start: int) -> None:
        for path in paths[start::4]:
            segment_all(store, [path])
            write_table(store)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, range(4)))
    assert sorted(read_table(store, ["digest"]).column(0).to_pylist()) == sorted(
        path.stem for path in store.records.rglob("*.jsonl")
    )
    assert read_table(store, ["digest"]).num_rows == 40


def test_the_report_shows_months_errors_and_the_least_certain_masks(
    source, open_store, segment_all, archive_segmenter
) -> None:
    store = open_store()
    segment_all(store, list_source(str(source)))
    write_table(store)
    path = write_report(store, archive_segmenter.card)
    assert path
    page = path.read_text()
    assert "Archive: 5 frames" in page
    assert "2026-11" in page
    assert "malformed" in page
    assert "simulated frames" in page
    pictures = re.findall(r'img src="([^"]+)"', page)
    assert pictures
    assert all((store.folder / picture).exists() for picture in pictures)


def test_there_is_no_report_without_rows(open_store, archive_segmenter) -> None:
    assert write_report(open_store(), archive_segmenter.card) is None


def test_the_example_of_the_documentation_reads_the_table(source, open_store, segment_all) -> None:
    store = open_store()
    segment_all(store, list_source(str(source)))
    write_table(store)
    assert len(pd.read_parquet(store.table)) == 6


def test_there_is_a_report_if_every_file_failed(source, open_store, segment_all, archive_segmenter) -> None:
    store = open_store()
    segment_all(store, [source / "damaged.png", source / "missing.png"])
    write_table(store)
    path = write_report(store, archive_segmenter.card)
    assert path
    assert "Archive: 0 frames" in path.read_text()
    assert "unreadable" in path.read_text()
