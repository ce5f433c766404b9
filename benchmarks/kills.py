"""`dvc repro` killed at random moments and run again: what stands in the end is what an undisturbed run makes.

`python -m benchmarks.kills --kills 200`. The project is a copy of this one, with few frames and a toy candidate. Again
and again `dvc repro` gets SIGKILL, with all that it has started, after a random time of up to half an undisturbed run,
until one comes to its end. Its outputs must then be the undisturbed ones, byte for byte, by the md5 that DVC keeps of
them and finds in the workspace; of those that differ between two undisturbed runs, as they hold times and names of
runs, that they are there. Then everything is cleared for the next.
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from rich.progress import Progress

from benchmarks.report import keep, table
from tests.project import project_copy, run, surroundings, toy

KILLS = 200
MADE = ("data", "models", "reports", "mlartifacts", "dvc.lock", "mlflow.db", ".dvc/cache", ".dvc/tmp")
CLEAN = "Data and pipelines are up to date."


@dataclass
class Disturbed:
    """A project whose pipeline up to `target` is killed. killed: how often in each stage; wrong: what went wrong."""

    project: Path
    target: str
    killed: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.log = self.project.parent / "log"

    def undisturbed(self) -> tuple[dict[str, str], float]:
        """The md5 of each output, and seconds; from nothing."""
        self._clear()
        start = time.perf_counter()
        run(self.project, "dvc", "repro", self.target)
        return self._outputs(), time.perf_counter() - start

    def disturbed(self, expected: dict[str, str], everywhere: set[str], moments: Any) -> int:
        """From nothing to the end, killed after each of `moments`, seconds, that comes before the end; how often.

        everywhere: outputs that have to be there, of which `expected` has the md5 of those that are always the same.
        """
        self._clear()
        kills = 0
        for moment in moments:
            if self._ended(moment):
                break
            kills += 1
        else:
            self._ended(None)
        found = self._outputs()
        self.wrong += [f"{path} is another" for path, md5 in expected.items() if found.get(path) != md5]
        self.wrong += [f"{path} is missing" for path in everywhere - found.keys()]
        if CLEAN not in (told := run(self.project, "dvc", "status", self.target)):
            self.wrong.append(f"dvc status: {told[-300:]}")
        return kills

    def _ended(self, after: float | None) -> bool:
        """Whether `dvc repro` came to its end before it was killed."""
        with self.log.open("w") as said:
            command = ["dvc", "repro", self.target]
            repro = subprocess.Popen(
                command, cwd=self.project, env=surroundings(), stdout=said, stderr=said, start_new_session=True
            )
            try:
                failed = repro.wait(after)
            except subprocess.TimeoutExpired:
                os.killpg(repro.pid, signal.SIGKILL)
                repro.wait()
                self.killed[([None, *re.findall(r"Running stage '(.*)'", self.log.read_text())][-1]) or "dvc"] += 1
                return False
        if failed:
            self.wrong.append(f"dvc repro failed after a kill: {self.log.read_text()[-500:]}")
        return True

    def _outputs(self) -> dict[str, str]:
        stages = yaml.safe_load((self.project / "dvc.lock").read_text())["stages"].values()
        return {out["path"]: out["md5"] for stage in stages for out in stage.get("outs", [])}

    def _clear(self) -> None:
        for name in MADE:
            path = self.project / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def measure(kills: int, target: str) -> dict[str, Any]:
    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as folder, Progress() as progress:
        bar = progress.add_task("undisturbed, twice", total=kills)
        disturbed = Disturbed(project_copy(Path(folder) / "project", toy(epochs=2)), target)
        first, seconds = disturbed.undisturbed()
        second, _ = disturbed.undisturbed()
        same = {path: md5 for path, md5 in first.items() if second[path] == md5}
        passes = done = 0
        while done < kills and not disturbed.wrong:
            progress.update(bar, description=f"kills, in pass {passes + 1}")
            moments = (chance.uniform(0, seconds / 2) for _ in range(kills - done))
            done += disturbed.disturbed(same, set(first), moments)
            passes += 1
            progress.update(bar, completed=done)
    return {
        "kills": done,
        "passes": passes,
        "seconds": round(seconds, 1),
        "stages": disturbed.killed,
        "same": sorted(same),
        "others": sorted(first.keys() - same.keys()),
        "wrong": disturbed.wrong,
    }


def tell(of: dict[str, Any]) -> str:
    rows = [{"killed in": stage, "times": count} for stage, count in sorted(of["stages"].items())]
    said = [
        f"{of['kills']} kills in {of['passes']} passes; an undisturbed run takes {of['seconds']} s.",
        f"The same bytes always: {', '.join(of['same'])}.",
        f"There always, with bytes that also two undisturbed runs do not share: {', '.join(of['others']) or 'none'}.",
        "What went wrong: " + ("; ".join(of["wrong"]) or "nothing") + ".",
    ]
    return "\n".join(said) + "\n\n" + table(rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=KILLS, help=f"how many ({KILLS})")
    parser.add_argument("--target", default="package", help="the last stage (package)")
    arguments = parser.parse_args()
    title = "The pipeline killed at random moments"
    of = keep("kills", lambda: measure(arguments.kills, arguments.target), title, tell, "kills")
    sys.exit("; ".join(of["wrong"]) or 0)


if __name__ == "__main__":
    main()
