"""The batch client as a process."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]


def start_client(folder: Path, server: str, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    """Start Python with these arguments in a folder. options: passed to Popen."""
    command = [sys.executable, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NERVEMASK_SERVER": server, "TERM": "xterm-256color"}
    return subprocess.Popen(command, cwd=folder, env=environment, **options)
