"""The batch client's output on the console: a line per frame, failures and warnings."""

import os
import sys
import threading
from collections.abc import Iterable

from service.clients.printable_text import print_problem, printable
from service.clients.response_forms import FailedFrame, Outcome, Segmentation


class ConsoleReport:
    """Prints results to standard output, as tab-separated columns, and problems to standard error. Thread-safe.

    failures: number of frames, and of whole files, that failed.
    """

    def __init__(self, model_warnings: list[str]):
        """model_warnings: warnings about the model. The service repeats them with each frame; they are printed once."""
        self.failures = 0
        self.model_warnings = set(map(printable, model_warnings))
        self.printed_warnings: set[tuple[object, str]] = set()
        self.lock = threading.Lock()
        for warning in model_warnings:
            print_problem(warning)

    def print_frame(self, name: object, outcome: Outcome, is_cine: bool) -> None:
        """Print a frame's line: name, whether there is a nerve, confidence or presence, area, milliseconds."""
        frame_name = f"{name}[{outcome.index}]" if is_cine else name
        if isinstance(outcome, FailedFrame):
            self.print_failure(frame_name, outcome.error.message)
            return
        measures, described = (
            (outcome.nerve, outcome) if isinstance(outcome, Segmentation) else (outcome.properties, outcome.properties)
        )
        self.print_warnings(name, described.warnings)
        confidence = described.confidence.mask
        if measures.present and confidence is not None:
            columns = ["nerve", f"confidence {confidence:.2f}"]
        else:
            answer = {True: "nerve", False: "no nerve", None: "not sure"}[measures.present]
            columns = [answer, f"presence {measures.presence:.2f}"]
        columns.append(f"{measures.area_px} px" if measures.area_mm2 is None else f"{measures.area_mm2} mm2")
        if isinstance(outcome, Segmentation):
            columns.append(f"{sum(outcome.milliseconds.values()):.0f} ms")
        self.print_line(frame_name, *columns)

    def print_line(self, *columns: object) -> None:
        """Print tab-separated columns to standard output."""
        with self.lock:
            try:
                print("\t".join(map(printable, columns)), flush=True)
            except BrokenPipeError:  # the reader, such as `head`, has ended; the batch goes on
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def print_failure(self, name: object, reason: object) -> None:
        """Count a failure and print it to standard error."""
        with self.lock:
            self.failures += 1
            print_problem(reason, name)

    def print_warnings(self, name: object, warnings: Iterable[str]) -> None:
        """Print each warning about a file once to standard error."""
        with self.lock:
            for warning in {*map(printable, filter(None, warnings))} - self.model_warnings:
                if (name, warning) not in self.printed_warnings:
                    print_problem(warning, name)
                    self.printed_warnings.add((name, warning))
