"""Kill the service and fill its disk at random moments: an answered mask always has its whole audit line.

`python -m benchmarks.service_kills --faults 200`. Clients send frames without a pause. Each fault is one of FAULTS; the
next one begins when /readyz says that the service is ready again, without warnings. In the end:

- every mask that a client received is correct, and has a line with its frame and its mask in the audit log;
- every file of the review spool is a whole picture, and only the service's user can read it;
- the service answers, and serves the model that the link names.
"""

import argparse
import json
import os
import random
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.faulted_service import FaultedService, MaskClients
from benchmarks.report import record, table
from service.model.model_folder import model_folder

TITLE = "Service under kills and full disks"
FAULT_COUNT = 200
SLOW_FAULT_INTERVAL = 40  # a hanging worker is replaced after 15 s: only one of so many faults
FAULTS: dict[str, Callable[[FaultedService], None]] = {
    "worker killed": FaultedService.kill_worker,
    "decoder process killed": FaultedService.kill_decoder,
    "service killed and started": FaultedService.kill_supervisor,
    "disk full for the audit log": FaultedService.fill_disk_after_audit,
    "disk full for all files": FaultedService.fill_disk,
    "worker killed while its disk is full": FaultedService.kill_worker_with_full_disk,
    "audit log moved away": FaultedService.rotate_audit,
    "champion spoilt": FaultedService.spoil_champion,
    "champion spoilt, worker killed": FaultedService.spoil_champion_and_kill_worker,
    "link dangles": FaultedService.dangle_link,
    "promotion killed": FaultedService.kill_promotion,
}
SLOW_FAULTS = {"worker hangs": FaultedService.stop_worker}


def measure(faults: int = FAULT_COUNT, model: Path | None = None) -> dict[str, Any]:
    """Inject the faults and return the figures. model: the model folder; None: the champion."""
    rng, counts, seconds = random.Random(0), Counter[str](), defaultdict[str, float](float)
    with tempfile.TemporaryDirectory() as name:
        service = FaultedService(Path(name), model or model_folder(), rng)
        with service, MaskClients(service) as clients:
            for number in range(faults):
                choices = SLOW_FAULTS if number % SLOW_FAULT_INTERVAL == SLOW_FAULT_INTERVAL - 1 else FAULTS
                kind = rng.choice(sorted(choices))
                choices[kind](service)
                counts[kind] += 1
                seconds[kind] = max(seconds[kind], service.wait_until_repaired())
                clients.wait_for_mask()
        audit = read_audit(service.audit_files())
        spool = [*service.spool.iterdir()]
        errors = [*find_unaudited(clients.masks, audit["masks"]), *find_spool_errors(spool), *clients.errors]
    return {
        "faults": counts,
        "statuses": clients.statuses,
        "masks": clients.masks.total(),
        "audit_lines": audit["masks"].total(),
        "incomplete_lines": audit["incomplete_lines"],
        "spool_files": len(spool),
        "repair_seconds": {kind: round(longest, 1) for kind, longest in seconds.items()},
        "errors": errors,
    }


def read_audit(files: list[Path]) -> dict[str, Any]:
    """Return how many lines each frame and mask have, and the number of incomplete lines."""
    masks, incomplete = Counter[tuple[str, str]](), 0
    for line in (line for file in files for line in file.read_text().splitlines()):
        try:
            fields = json.loads(line)
        except ValueError:
            incomplete += 1
            continue
        if fields.get("status") == 200:
            masks[fields["frame"], fields["mask"]] += 1
    return {"masks": masks, "incomplete_lines": incomplete}


def find_unaudited(received: Counter[tuple[str, str]], audited: Counter[tuple[str, str]]) -> list[str]:
    """Return an error for each frame with more masks than audit lines."""
    missing = received - audited
    return [f"{count} masks of frame {frame[:12]} have no audit line" for (frame, _), count in missing.items()]


def find_spool_errors(files: list[Path]) -> list[str]:
    """Return an error for each file that is no whole picture, or that others can read."""
    errors = [f"{file.name} can be read by others" for file in files if file.stat().st_mode & 0o077]
    for file in files:
        is_partial = file.name.startswith(".")  # a killed worker left it
        if not is_partial and cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_UNCHANGED) is None:
            errors.append(f"{file.name} is no whole picture")
    return errors


def to_markdown(figures: dict[str, Any]) -> str:
    rows = [
        {"fault": kind, "number": count, "longest_repair_seconds": figures["repair_seconds"][kind]}
        for kind, count in sorted(figures["faults"].items())
    ]
    statuses = ", ".join(f"{count} times {status}" for status, count in sorted(figures["statuses"].items()))
    lines = [
        f"{figures['masks']} masks were received, and {figures['audit_lines']} have an audit line; "
        f"{figures['incomplete_lines']} lines are incomplete. A worker that is killed between its line and its "
        "response leaves a line without a received mask.",
        f"Responses: {statuses}. Files in the review spool: {figures['spool_files']}.",
        "A repair lasts from the end of the fault until every worker serves the linked model without a warning.",
        f"Errors: {'; '.join(figures['errors']) or 'none'}.",
    ]
    return "\n".join(lines) + "\n\n" + table(rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.service_kills", description=TITLE)
    parser.add_argument("--faults", type=int, default=FAULT_COUNT, help="number of faults (%(default)s)")
    arguments = parser.parse_args()
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    figures = record("service_kills", lambda: measure(arguments.faults), "service_kills")
    sys.exit("; ".join(figures["errors"]) or 0)


if __name__ == "__main__":
    main()
