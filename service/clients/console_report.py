"""The batch client's output on the console: a line per frame, failures and warnings."""

import os
import sys
import threading
from collections.abc import Iterable
from typing import Any


class ConsoleReport:
    """Prints results to standard output, as tab-separated columns, and problems to standard error. Thread-safe.

    failures: number of frames, and of whole files, that failed.
    """

    def __init__(self, model_warnings: list[str]):
        """model_warnings: warnings about the model. The service repeats them with each frame; they are printed once."""
        self.failures = 0
        self.model_warnings = set(model_warnings)
        self.printed_warnings: set[tuple[object, str]] = set()
        self.lock = threading.Lock()
        for warning in model_warnings:
            print(f"nervemask: {warning}", file=sys.stderr)

    def print_frame(self, name: object, outcome: dict[str, Any], is_cine: bool) -> None:
        """Print a frame's line: name, whether there is a nerve, confidence or presence, area, milliseconds.

        outcome: a frame's JSON or GeoJSON, or its error, as the service returns it.
        """
        fields = outcome.get("properties") or outcome | outcome.get("nerve", {}) | outcome["frame"]
        frame_name = f"{name}[{fields['index']}]" if is_cine else name
        if "error" in outcome:
            self.print_failure(frame_name, outcome["error"]["message"])
            return
        self.print_warnings(name, fields["warnings"])
        if fields["present"]:
            columns = ["nerve", f"confidence {fields['confidence']['mask']:.2f}"]
        else:
            columns = ["no nerve", f"presence {fields['presence']:.2f}"]
        columns.append(f"{fields['area_px']} px" if fields["area_mm2"] is None else f"{fields['area_mm2']} mm2")
        if "milliseconds" in outcome:  # not in GeoJSON
            columns.append(f"{sum(outcome['milliseconds'].values()):.0f} ms")
        self.print_line(frame_name, *columns)

    def print_line(self, *columns: object) -> None:
        """Print tab-separated columns to standard output."""
        line = "\t".join(map(str, columns)).encode(errors="backslashreplace").decode()  # file names may be no Unicode
        with self.lock:
            try:
                print(line, flush=True)
            except BrokenPipeError:  # the reader, such as `head`, has ended; the batch goes on
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def print_failure(self, name: object, reason: object) -> None:
        """Count a failure and print it to standard error."""
        with self.lock:
            self.failures += 1
            print(f"{name}: {reason}", file=sys.stderr)

    def print_warnings(self, name: object, warnings: Iterable[str]) -> None:
        """Print each warning about a file once to standard error."""
        with self.lock:
            for warning in {*filter(None, warnings)} - self.model_warnings:
                if (name, warning) not in self.printed_warnings:
                    print(f"{name}: {warning}", file=sys.stderr)
                    self.printed_warnings.add((name, warning))
