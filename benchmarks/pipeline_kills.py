"""Kill `dvc repro` at random moments and run it again: the results must equal those of uninterrupted runs.

`python -m benchmarks.pipeline_kills --kills 200`. The project is a copy of this one with few frames and a toy
candidate. In each pass, `dvc repro` and its child processes get SIGKILL after a random time of up to half an
uninterrupted run, again and again, until one run completes. Then:

- outputs that are the same in two uninterrupted runs must have the same MD5 in dvc.lock;
- outputs that differ between two uninterrupted runs, because they hold times and run names, must exist;
- `dvc status` must report no change.

The next pass starts from nothing.
"""

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from rich.progress import Progress

from benchmarks.report import record, table
from tests.project_copy import clean_environment, project_copy, run, toy

TITLE = "The pipeline killed at random moments"
KILLS = 200
GENERATED = ("data", "models", "reports", "mlartifacts", "dvc.lock", "mlflow.db", ".dvc/cache", ".dvc/tmp")
UP_TO_DATE = "Data and pipelines are up to date."


@dataclass
class KilledPipeline:
    """A project whose pipeline is killed. target: the last stage to run.

    kills_by_stage: number of kills in each stage. errors: a message for each wrong result.
    """

    project: Path
    target: str
    kills_by_stage: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.log = self.project.parent / "log"

    def run_uninterrupted(self) -> tuple[dict[str, str], float]:
        """Run the pipeline from nothing. Return the MD5 of each output, and the seconds."""
        self._clear()
        start = time.perf_counter()
        run(self.project, "dvc", "repro", self.target)
        return self._outputs(), time.perf_counter() - start

    def run_with_kills(self, expected_md5: dict[str, str], required: set[str], kill_seconds: Iterable[float]) -> int:
        """Run the pipeline from nothing to its end, check the results, and return the number of kills.

        kill_seconds: time before each kill; a run that ends earlier ends the pass. required: outputs that must exist.
        expected_md5: MD5 of the reproducible ones.
        """
        self._clear()
        kills = 0
        for seconds in kill_seconds:
            if self._repro(seconds):
                break
            kills += 1
        else:
            self._repro(None)
        outputs = self._outputs()
        self.errors += [f"{path} has other content" for path, md5 in expected_md5.items() if outputs.get(path) != md5]
        self.errors += [f"{path} is missing" for path in required - outputs.keys()]
        if UP_TO_DATE not in (status := run(self.project, "dvc", "status", self.target)):
            self.errors.append(f"dvc status: {status[-300:]}")
        return kills

    def _repro(self, kill_after: float | None) -> bool:
        """Run `dvc repro` and kill it after some seconds. Return True if it ended before that."""
        with self.log.open("w") as log_file:
            process = subprocess.Popen(
                ["dvc", "repro", self.target],
                cwd=self.project,
                env=clean_environment(),
                stdout=log_file,
                stderr=log_file,
                start_new_session=True,
            )
            try:
                returncode = process.wait(kill_after)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                stages = re.findall(r"Running stage '(.*)'", self.log.read_text())
                self.kills_by_stage[stages[-1] if stages else "dvc"] += 1
                return False
        if returncode:
            self.errors.append(f"dvc repro failed after a kill: {self.log.read_text()[-500:]}")
        return True

    def _outputs(self) -> dict[str, str]:
        """Return the MD5 of each output path in dvc.lock."""
        stages = yaml.safe_load((self.project / "dvc.lock").read_text())["stages"].values()
        return {out["path"]: out["md5"] for stage in stages for out in stage.get("outs", [])}

    def _clear(self) -> None:
        for name in GENERATED:
            path = self.project / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def measure(kills: int = KILLS, target: str = "package") -> dict[str, Any]:
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as folder, Progress() as progress:
        task = progress.add_task("two uninterrupted runs", total=kills)
        pipeline = KilledPipeline(project_copy(Path(folder) / "project", toy(epochs=2)), target)
        first, seconds = pipeline.run_uninterrupted()
        second, _ = pipeline.run_uninterrupted()
        reproducible = {path: md5 for path, md5 in first.items() if second[path] == md5}
        passes = kill_count = 0
        while kill_count < kills and not pipeline.errors:
            progress.update(task, description=f"kills, pass {passes + 1}")
            kill_seconds = (rng.uniform(0, seconds / 2) for _ in range(kills - kill_count))
            kill_count += pipeline.run_with_kills(reproducible, set(first), kill_seconds)
            passes += 1
            progress.update(task, completed=kill_count)
    return {
        "kills": kill_count,
        "passes": passes,
        "uninterrupted_seconds": round(seconds, 1),
        "kills_by_stage": pipeline.kills_by_stage,
        "reproducible": sorted(reproducible),
        "run_dependent": sorted(first.keys() - reproducible.keys()),
        "errors": pipeline.errors,
    }


def to_markdown(figures: dict[str, Any]) -> str:
    rows = [{"stage": stage, "kills": count} for stage, count in sorted(figures["kills_by_stage"].items())]
    lines = [
        f"{figures['kills']} kills in {figures['passes']} passes. An uninterrupted run takes "
        f"{figures['uninterrupted_seconds']} s.",
        f"Outputs with the same bytes in every run: {', '.join(figures['reproducible'])}.",
        "Outputs that exist after every pass, with bytes that differ between uninterrupted runs too: "
        f"{', '.join(figures['run_dependent']) or 'none'}.",
        f"Errors: {'; '.join(figures['errors']) or 'none'}.",
    ]
    return "\n".join(lines) + "\n\n" + table(rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pipeline_kills", description=TITLE)
    parser.add_argument("--kills", type=int, default=KILLS, help="number of kills (%(default)s)")
    parser.add_argument("--target", default="package", help="last stage to run (%(default)s)")
    arguments = parser.parse_args()
    figures = record("pipeline_kills", lambda: measure(arguments.kills, arguments.target), "pipeline_kills")
    sys.exit("; ".join(figures["errors"]) or 0)


if __name__ == "__main__":
    main()
