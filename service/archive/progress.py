"""What the archive command prints: progress, failures, and a closing table."""

import sys
import time
from collections import Counter, deque
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from service.archive.result_store import ResultStore
from service.clients.printable_text import print_problem

LINE_SECONDS = 10.0  # between two lines of progress
RECENT_LINES = 30  # whose files give the time left: those that were done before are quick
MAX_PRINTED_FAILURES = 20


class Progress:
    """Counts files and frames, and prints a line every LINE_SECONDS to standard error.

    counts: the sums of what `SegmentationActor` returns.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.printed_failures = 0
        self.start = self.last_line = time.monotonic()
        self.recent = deque([(self.start, 0)], RECENT_LINES)  # times and numbers of files

    def update(self, counts: dict[str, Any], total: Any) -> None:
        """Add the counts of a task. total: the future number of files."""
        for failure in counts.pop("failures"):
            self._print_failure(failure)
        self.counts.update(counts)
        now = time.monotonic()
        if now - self.last_line >= LINE_SECONDS:
            self.last_line = now
            self.recent.append((now, self.counts["files"]))
            print(self._line(now - self.start, _known(total)), file=sys.stderr, flush=True)

    def _print_failure(self, failure: str) -> None:
        self.printed_failures += 1
        if self.printed_failures <= MAX_PRINTED_FAILURES:
            print_problem(failure)
        elif self.printed_failures == MAX_PRINTED_FAILURES + 1:
            print_problem("further failures are only in the table (column error)")

    def _line(self, seconds: float, total: int | None) -> str:
        counts = self.counts
        files = f"{counts['files']} of {total} files" if total else f"{counts['files']} files"
        parts = [files, f"{counts['segmented']} frames", f"{counts['segmented'] / seconds:.0f} frames/s"]
        if counts["done_before"]:
            parts.append(f"{counts['done_before']} done before")
        if counts["failed"]:
            parts.append(f"{counts['failed']} failed")
        if total and counts["files"]:
            (first_time, first_files), (last_time, last_files) = self.recent[0], self.recent[-1]
            left = (total - counts["files"]) * (last_time - first_time) / max(1, last_files - first_files)
            parts.append(f"{_duration(left)} left")
        return ", ".join(parts)

    def finish(self, store: ResultStore, report: Path | None) -> None:
        """Print the closing table to standard output. report: the page, if there is one."""
        seconds, counts = time.monotonic() - self.start, self.counts
        lines = {
            "Files": counts["files"],
            "Frames segmented": counts["segmented"],
            "Frames already done, or duplicates": counts["done_before"],
            "Failures": counts["failed"],
            "Files that are not ultrasound": counts["skipped"],
            "Time": _duration(seconds),
            "Frames per second": f"{counts['segmented'] / seconds:.1f}",
        }
        if report:
            lines |= {"Table": store.table, "Report": report}
        for name, value in lines.items():
            print(f"{name:<45}{value}")


def _known(total: Any) -> int | None:
    """Return the value of a future; None if it is not ready."""
    ready, _ = ray.wait([total], timeout=0)
    try:
        return int(ray.get(ready[0])) if ready else None
    except RayError:  # listing itself then stops the job, and says why
        return None


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds) // 60, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {round(seconds) % 60:02d} s"
