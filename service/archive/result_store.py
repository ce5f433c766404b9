"""The output folder of an archive: a record and the output files of each input file, written once.

    frames/MODEL/part-A.parquet         the table: a row for each frame
    records/MODEL/AB/DIGEST.jsonl       the rows of one input file
    mask/MODEL/AB/DIGEST.png            its outputs; those of a cine are DIGEST_0000.png, DIGEST_0001.png ...

DIGEST is the SHA-256 of the input file; A and AB are its first digits. MODEL is the version and run of the model. Each
file is complete or absent. The same input gives the same output files, and the same rows but for the milliseconds. So a
second attempt, a second run, or two runs at once give one record for each input file. The record is written after the
outputs: where it is, nothing is left to do.
"""

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from service.clients.output_files import atomic_file
from service.model.card import Card

RECORDS, TABLE = "records", "frames"
ATTEMPTS = ".attempts"  # a file for each input file that is being segmented: a byte for each attempt
PARTS = "0123456789abcdef"  # first digits of digests
NO_OUTPUT = "none"
Row = dict[str, Any]


class OutputError(Exception):
    """A result cannot be written. The message names the file and the reason."""


class ResultStore:
    """The results of one model. Several processes may use it at once.

    folder: the output folder. model: name of the model's folders, of `model_key`.
    kind: of the output files; NO_OUTPUT: there are none.
    """

    def __init__(self, folder: Path, model: str, kind: str):
        self.folder, self.model, self.kind = folder, model, kind

    @property
    def table(self) -> Path:
        """The folder of the table's parts."""
        return self.folder / TABLE / self.model

    @property
    def records(self) -> Path:
        """The folder of the records. It has a folder for each first two digits of the digests."""
        return self.folder / RECORDS / self.model

    def mark(self) -> str:
        """Write a hidden file with a name that no other run has; return its name. See `check_mark`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f".run-{uuid.uuid4().hex}"
        (self.folder / name).touch()
        return name

    def check_mark(self, name: str) -> None:
        """Raise OutputError on a node whose output folder is not that of the run."""
        if not (self.folder / name).exists():
            message = "is not shared: all nodes need the output folder under the same path, on storage that they share"
            raise OutputError(f"{self.folder} {message}")

    def remove_mark(self, name: str) -> None:
        """Remove the file of `mark`."""
        (self.folder / name).unlink(missing_ok=True)

    def record(self, digest: str) -> Path:
        """Return the record of an input file."""
        return self.records / digest[:2] / f"{digest}.jsonl"

    def output(self, digest: str, suffix: str, index: int | None = None) -> Path:
        """Return the output file of an input file, or of frame `index` of a cine."""
        frame = "" if index is None else f"_{index:04d}"
        return self.folder / self.kind / self.model / digest[:2] / f"{digest}{frame}{suffix}"

    def read_record(self, digest: str) -> list[Row]:
        """Return the rows of an input file; none if it has no record yet, or a broken one."""
        try:
            return [json.loads(line) for line in self.record(digest).read_bytes().splitlines()]
        except (FileNotFoundError, ValueError):
            return []

    def is_finished(self, rows: list[Row]) -> bool:
        """Return whether nothing is left to do for the input file with these rows."""

        def is_row_finished(row: Row) -> bool:
            has_output = self.kind == NO_OUTPUT or self.kind in row["outputs"]
            return not row["try_again"] and (has_output or row.get("error") is not None)

        return bool(rows) and all(map(is_row_finished, rows))

    def write_record(self, digest: str, rows: list[Row]) -> None:
        """Write the rows of an input file, after its outputs. Raises OutputError."""
        with _writing(self.record(digest)) as file:
            file.writelines(json.dumps(row, separators=(",", ":")).encode() + b"\n" for row in rows)

    @property
    def attempts(self) -> Path:
        """The folder of the attempts that have not ended."""
        return self.folder / ATTEMPTS / self.model

    def attempted(self) -> set[str]:
        """Return the keys of the input files with attempts that have not ended, or ended with their process."""
        return set(os.listdir(self.attempts)) if self.attempts.exists() else set()

    @contextmanager
    def attempt(self, key: str) -> Iterator[int]:
        """Count an attempt at an input file until the block ends. Yield how many ended with their process before.

        key: of the file's location, because copies of a file may be segmented at the same time. Raises OutputError.
        """
        path = self.attempts / key
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                before = file.tell()
                file.write(b".")
        except OSError as error:
            raise OutputError(f"{path} cannot be written ({error.strerror})") from error
        try:
            yield before
        finally:
            with suppress(OSError):
                path.unlink()

    def remove_record(self, digest: str) -> None:
        """Remove the record of a file that could not be read before. Raises OutputError."""
        try:
            self.record(digest).unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"{self.record(digest)} cannot be removed ({error.strerror})") from error

    def write_output(self, digest: str, suffix: str, index: int | None, data: bytes) -> None:
        """Write an output file. Raises OutputError."""
        with _writing(self.output(digest, suffix, index)) as file:
            file.write(data)


@contextmanager
def _writing(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing; it is complete or absent. Raises OutputError."""
    try:
        with atomic_file(path) as file:
            yield file
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror or error})") from error


def model_key(card: Card) -> str:
    """Return the name of a model's folders: its version and its run."""
    text = f"{card.version}-{card.run_id[:8]}"
    return "".join(character if character.isalnum() or character in "._-" else "_" for character in text)
