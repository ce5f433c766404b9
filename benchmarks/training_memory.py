"""A training step under several settings of glibc's malloc, each in a process of its own."""

import json
import os
import subprocess
import sys
from typing import Any

EPOCHS = 3
PROJECT, DEFAULT = "this project", "glibc's default"
# glibc ignores a threshold above 32 MiB.
SETTINGS: dict[str, dict[str, str]] = {
    PROJECT: {},
    DEFAULT: {},
    "largest mmap threshold": {"MALLOC_MMAP_THRESHOLD_": str(32 * 2**20)},
    "one arena, no mmap, no trimming": {
        "MALLOC_ARENA_MAX": "1",
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": str(16 * 2**30),
    },
}
RUN = "from benchmarks.training_steps import main; main()"
WITHOUT_THE_PROJECTS = f"import service.resources.machine as machine; machine.keep_freed_memory = lambda: None; {RUN}"


def measure(candidates: list[str]) -> list[dict[str, Any]]:
    return [
        {"network": name, "setting": setting, **_measure_process(name, setting)}
        for name in candidates
        for setting in SETTINGS
    ]


def _measure_process(name: str, setting: str) -> dict[str, float]:
    code = RUN if setting == PROJECT else WITHOUT_THE_PROJECTS
    command = [sys.executable, "-c", code, name, str(EPOCHS)]
    output = subprocess.run(
        command, env={**os.environ, **SETTINGS[setting]}, check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    cost = json.loads(output.splitlines()[-1])
    return {field: round(value) for field, value in cost.items() if field != "steps"}
