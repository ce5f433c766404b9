"""A training step with this project's setting of glibc's malloc and with the default, each in its own process."""

import json
import subprocess
import sys
from typing import Any

EPOCHS = 3
PROJECT, DEFAULT = "this project", "glibc's default"
SETTINGS = (PROJECT, DEFAULT)
RUN = "from benchmarks.training_steps import main; main()"
WITHOUT_THE_PROJECTS = (
    f"import service.resources.malloc_options as options; options.keep_freed_memory = lambda: None; {RUN}"
)


def measure(candidates: list[str]) -> list[dict[str, Any]]:
    return [
        {"network": name, "malloc": setting, **_measure_process(name, setting)}
        for name in candidates
        for setting in SETTINGS
    ]


def _measure_process(name: str, setting: str) -> dict[str, float]:
    code = RUN if setting == PROJECT else WITHOUT_THE_PROJECTS
    command = [sys.executable, "-c", code, name, str(EPOCHS)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    cost = json.loads(output.splitlines()[-1])
    return {field: round(value) for field, value in cost.items() if field not in ("steps", "gpu_mib")}
