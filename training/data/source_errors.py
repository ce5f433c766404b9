"""Errors in the data of a source, and the log of the files that ingest leaves out."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

SKIP_HINT = "Or set nerve.on_error to skip in params.yaml: then the file is left out and listed in left_out.csv."

Result = TypeVar("Result")


class SourceError(Exception):
    """An error in the data of a source: the file, what is wrong with it, and what to do.

    reason: continues a sentence that begins with the file's name ("is a frame without a mask").
    remedy: a full sentence.
    """

    def __init__(self, file: str, reason: str, remedy: str):
        super().__init__(f"{file}: {reason}. {remedy}")
        self.file = file
        self.reason = reason
        self.remedy = remedy


@dataclass
class IngestLog:
    """The files that ingest leaves out. `nerve.on_error` decides whether files with errors are among them.

    skip: list files with errors. If it is False, the first error is raised.
    left_out: file and reason of each file that is not in the data set.
    """

    skip: bool
    left_out: list[tuple[str, str]] = field(default_factory=list)

    def report_error(self, error: SourceError) -> None:
        """Raise the error with a hint about nerve.on_error; with `skip`, list its file instead."""
        if not self.skip:
            raise SourceError(error.file, error.reason, f"{error.remedy} {SKIP_HINT}") from error
        self.leave_out(error.file, error.reason)

    def leave_out(self, file: str, reason: str) -> None:
        """List a file that is not in the data set. Without an error, it is a valid file that does not belong to it."""
        self.left_out.append((file, reason))

    def attempt(self, read: Callable[[], Result]) -> Result | None:
        """Return the result of `read`; None if it raises a SourceError that is skipped."""
        try:
            return read()
        except SourceError as error:
            self.report_error(error)
            return None
